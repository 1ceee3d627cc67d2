"""Which rows of the polled dataset list may enter silver? The rules, beside those that follow from the contracts.

A message that a dataset is absent has no other values to judge; the rules of its key alone hold for it.
"""

from lakehouse.domains.kaggle.listing.contract import DATASET_LIST, DATASET_LIST_POLLS
from lakehouse.engine.functions import lower_ascii
from lakehouse.rules import Rule, contract_rules

_SHOWN_REF = "concat('ref is ', left(ref, 100), ', expected owner/slug')"


def list_rules() -> list[Rule]:
    """Return the rules of the list's rows, in the order they are tried."""
    return [
        *contract_rules(DATASET_LIST),
        Rule("wrong_ref", "reject", "regexp_extract(ref, '^[^/ ]+/[^/ ]+$', 0) = ''", _SHOWN_REF),
        Rule("no_title", "reject", "is_absent IS NOT TRUE AND (title IS NULL OR trim(title) = '')", "'title is null or blank'"),
        Rule(
            "seen_before_the_poll",
            "reject",
            "seen_ts < poll_ts",
            "concat('seen_ts is ', seen_ts, ', before poll_ts ', poll_ts)",
        ),
        Rule("url_of_another", "warn", f"instr({lower_ascii('url')}, {lower_ascii('ref')}) = 0", "concat('url does not hold ref ', ref)"),
    ]


def poll_rules() -> list[Rule]:
    """Return the rules of the messages that name a poll."""
    return [
        *contract_rules(DATASET_LIST_POLLS),
        Rule("ended_before_begun", "reject", "ended_ts < poll_ts", "concat('ended_ts is ', ended_ts, ', before poll_ts ', poll_ts)"),
    ]
