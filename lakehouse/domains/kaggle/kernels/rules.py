"""Which kernels may enter silver? See `lakehouse/domains/kaggle/rules.py`."""

from lakehouse.domains.kaggle.kernels.contract import KERNELS
from lakehouse.domains.kaggle.rules import of_dump, unless_gone
from lakehouse.rules import Rule

_MILLIS_PER_DAY = 86_400_000
# A dump has the day on which a kernel was made public, and the second at which it was made: on one day the first looks earlier.
_PUBLIC_TOO_EARLY = (
    "made_public_ts < created_ts AND (CAST(made_public_ts AS DATE) < CAST(created_ts AS DATE) "
    f"OR unix_millis(made_public_ts) % {_MILLIS_PER_DAY} <> 0)"
)


def kernel_rules() -> list[Rule]:
    """Return the rules of kernels, in the order they are tried; negative counts are out of the contract's ranges."""
    return [
        *of_dump(KERNELS),
        unless_gone("no_author", "author_user_id IS NULL", "'author_user_id is null'"),
        unless_gone(
            "public_before_created",
            _PUBLIC_TOO_EARLY,
            "concat('made_public_ts is ', made_public_ts, ', before created_ts ', created_ts)",
        ),
    ]
