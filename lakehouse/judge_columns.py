"""Would bronze's rules reject a row that was not sent yet? The verdict as SQL for DuckDB, over rows that have a contract's columns alone.

What a message would have besides, such as the time of its arrival, is null: a rule that needs it is not broken.
"""

from collections.abc import Sequence

from lakehouse.contract import Contract
from lakehouse.domain_names import DOMAINS
from lakehouse.engine.functions import text
from lakehouse.registry import build_domain
from lakehouse.rules import Rule, contract_rules
from lakehouse.settings import Settings

__all__ = ["ARRIVAL", "WRONG_TYPE", "Rule", "rules_of", "unjudged", "verdict"]

# The rule that a message breaks of which a field holds what is no value of its type; see `contract_rules`.
WRONG_TYPE = "wrong_type"
# What bronze has beside the contract's fields, with the types of DuckDB.
ARRIVAL = (
    "CAST('' AS BLOB) AS value, CAST(NULL AS VARCHAR) AS topic, CAST(NULL AS INTEGER) AS partition, CAST(NULL AS BIGINT) AS kafka_offset, "
    "CAST(NULL AS TIMESTAMPTZ) AS kafka_ts, CAST(NULL AS INTEGER) AS wire_version, CAST(NULL AS VARCHAR) AS source_run, "
    "CAST(NULL AS BIGINT) AS source_row"
)


def rules_of(settings: Settings, domain: str, contract: Contract) -> Sequence[Rule]:
    """Return the rules by which a domain judges the rows of a contract; those of the contract alone where it takes no such rows."""
    if domain in DOMAINS:
        for source in build_domain(domain, settings).sources:
            if source.contract.topic == contract.topic:
                return source.rules
    return contract_rules(contract)


def verdict(rules: Sequence[Rule], is_misfit: str) -> str:
    """Return the SQL of the name of the first rule that a row breaks, null for none.

    Args:
        rules: in the order in which they are tried.
        is_misfit: SQL condition: a field of the row holds what is no value of its type.
    """
    broken = [f"WHEN {rule.broken} THEN {text(rule.name)}" for rule in rules if rule.level == "reject" and not rule.reads_bytes]
    return " ".join([f"CASE WHEN {is_misfit} THEN {text(WRONG_TYPE)}", *broken, "END"]).replace("`", '"')


def unjudged(rules: Sequence[Rule]) -> frozenset[str]:
    """Return the names of the rules that do not feed the breaker."""
    return frozenset(rule.name for rule in rules if not rule.is_judged)
