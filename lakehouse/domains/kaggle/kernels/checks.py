"""How many rows did each strategy of kernels affect? DuckDB's SQL; see `lakehouse/domains/kaggle/reports.py`."""

from collections.abc import Sequence

from lakehouse.domain import Check
from lakehouse.domains.kaggle.reports import gone_count, sum_check

_KERNELS, _VERSIONS = "lh.silver.kaggle_kernels", "lh.silver.kaggle_kernels_versions"


def kernel_checks() -> Sequence[Check]:
    """Return the checks."""
    return [
        sum_check(
            _KERNELS,
            {
                "input": f"SELECT count(*) FROM {_VERSIONS}",
                "duplicates_removed": f"SELECT count(*) - count(DISTINCT kernel_id) FROM {_VERSIONS}",
                "gone_removed": gone_count(_VERSIONS, "kernel_id"),
                "output": f"SELECT count(*) FROM {_KERNELS}",
            },
            {
                "language_missing_flagged": f"SELECT count(*) FROM {_KERNELS} WHERE is_language_missing",
                "age_unknown": f"SELECT count(*) FROM {_KERNELS} WHERE kernel_age_days IS NULL",
            },
        )
    ]
