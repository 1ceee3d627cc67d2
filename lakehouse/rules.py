"""When is a bronze row good enough for silver? Rules as data, those that follow from a contract, and the verdict on a row.

Conditions and reasons are SQL text over the columns of bronze: data that can be printed, and one round trip to the JVM for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame

from lakehouse.contract import Contract, Field

RULE, REASON, WARNINGS = "_rule", "_reason", "_warnings"
# The verdict on a message without a value, which Kafka calls a tombstone: it says nothing, so it is neither accepted nor rejected.
TOMBSTONE = "tombstone"
IS_REJECTED = f"{RULE} IS NOT NULL AND {RULE} <> '{TOMBSTONE}'"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about a row.

    Attributes:
        name: as it stands in `lh.ops.rejects` and in the metrics.
        level: `reject` keeps the row out of silver, `warn` counts it and lets it in.
        broken: SQL condition, true where the row breaks the rule; null counts as not broken.
        reason: SQL text expression: what was found against what is allowed.
        is_judged: whether the breaker counts rows that break it. Not, where the configuration and not the rows is at fault: one place
            must not stop the others.
    """

    name: str
    level: Literal["reject", "warn"]
    broken: str
    reason: str
    is_judged: bool = True


def contract_rules(contract: Contract) -> list[Rule]:
    """Derive the rules that follow from a contract alone: parsable, typed, required fields, ranges; in that order."""
    untyped = f"coalesce({', '.join(f'CAST({name} AS STRING)' for name in contract.names)}) IS NULL"
    # Read only where nothing was typed; whatever is a JSON object reads as a map of texts.
    as_map = "from_json(CAST(value AS STRING), 'map<string,string>')"
    said = ", ".join(f"try_element_at({as_map}, '{name}')" for name in contract.names)
    says_something = f"coalesce({said}) IS NOT NULL"
    required = [f.name for f in contract.fields if f.required]
    return [
        Rule("unparsable", "reject", f"{untyped} AND {as_map} IS NULL", "'the message is not a JSON object'"),
        Rule("wrong_type", "reject", f"{untyped} AND {says_something}", f"concat('wrong type in: ', {_suspects(contract, as_map)})"),
        Rule(
            "no_key",
            "reject",
            " OR ".join(f"{name} IS NULL" for name in required),
            f"concat('missing, or not a time between year 1 and 9999: ', {_names({name: f'{name} IS NULL' for name in required})})",
        ),
        *[_range_rule(f) for f in contract.fields if f.low is not None or f.high is not None],
    ]


def with_verdict(rows: DataFrame, rules: Sequence[Rule], *also: str) -> DataFrame:
    """Add the first broken rejecting rule (`_rule`), and the names of broken warnings (`_warnings`). Row-wise.

    `_rule` is null for an accepted row, and TOMBSTONE for a message without a value, which no rule judges.

    Columns that are named `also`, as SQL, come with them: a select of their own would be one more plan to analyse.
    """
    rejecting = " ".join(f"WHEN {rule.broken} THEN '{rule.name}'" for rule in rules if rule.level == "reject")
    rejecting = f"WHEN value IS NULL THEN '{TOMBSTONE}' {rejecting}"
    warning = ", ".join(f"CASE WHEN {rule.broken} THEN '{rule.name}' END" for rule in rules if rule.level == "warn")
    return rows.selectExpr(
        "*", f"CASE {rejecting} END AS {RULE}", f"CAST(array_compact(array({warning})) AS ARRAY<STRING>) AS {WARNINGS}", *also
    )


def with_reason(rejected: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add to rejected rows why: the reason of the first broken rejecting rule (`_reason`). Row-wise.

    Apart from the verdict, because planning the reasons takes longer than judging a micro-batch, and most need none.
    """
    reasons = " ".join(f"WHEN {rule.broken} THEN {rule.reason}" for rule in rules if rule.level == "reject")
    return rejected.selectExpr("*", f"CASE {reasons} END AS {REASON}")


def _range_rule(f: Field) -> Rule:
    checks = [f"isnan({f.name})"]
    allowed = []
    if f.low is not None:
        checks.append(f"{f.name} < {f.low}")
        allowed.append(f"from {f.low:g}")
    if f.high is not None:
        checks.append(f"{f.name} > {f.high}")
        allowed.append(f"up to {f.high:g}")
    expected = " ".join([*allowed, f.unit]).strip()
    return Rule("out_of_range", "reject", f"({' OR '.join(checks)})", f"concat('{f.name} is ', {f.name}, ', allowed is {expected}')")


def _suspects(contract: Contract, as_map: str) -> str:
    """Name the fields whose text does not read as their type, or say that a text stands where a number is expected."""
    patterns = {"timestamp": r"^-?[0-9]+$", "double": r"^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?$"}
    odd = {f.name: f"try_element_at({as_map}, '{f.name}') NOT RLIKE '{patterns[f.type]}'" for f in contract.fields if f.type in patterns}
    return f"coalesce(nullif({_names(odd)}, ''), 'a number is written as a text, or is too large')"


def _names(conditions: Mapping[str, str]) -> str:
    cases = ", ".join(f"CASE WHEN {condition} THEN '{name}' END" for name, condition in conditions.items())
    return f"concat_ws(', ', {cases})"
