"""When is a bronze row good enough for silver? Rules as data, those that follow from a contract, and the split by them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.contract import Contract, Field

RULE, REASON, WARNINGS = "_rule", "_reason", "_warnings"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about a row.

    Attributes:
        name: as it stands in `lh.ops.rejects` and in the metrics.
        level: `reject` keeps the row out of silver, `warn` counts it and lets it in.
        broken: true where the row breaks the rule; null counts as not broken.
        reason: what was found against what is allowed.
    """

    name: str
    level: Literal["reject", "warn"]
    broken: Column
    reason: Column


def contract_rules(contract: Contract) -> list[Rule]:
    """Derive the rules that follow from a contract alone: parsable, typed, required fields, ranges; in that order."""
    fields = [F.col(f.name) for f in contract.fields]
    untyped = F.coalesce(*[f.cast("string") for f in fields]).isNull()
    # Read only where nothing was typed; whatever is a JSON object reads as a map of texts.
    as_map = F.from_json(F.col("value").cast("string"), "map<string,string>")
    says_something = F.coalesce(*[F.try_element_at(as_map, F.lit(f.name)) for f in contract.fields]).isNotNull()
    missing = [f for f in contract.fields if f.required]
    return [
        Rule("unparsable", "reject", untyped & as_map.isNull(), F.lit("the message is not a JSON object")),
        Rule("wrong_type", "reject", untyped & says_something, F.concat(F.lit("wrong type in: "), _suspects(contract, as_map))),
        Rule(
            "no_key",
            "reject",
            F.array_contains(F.array(*[F.col(f.name).isNull() for f in missing]), True),
            F.concat(F.lit("missing, or not a time between year 1 and 9999: "), _names(missing, lambda f: F.col(f.name).isNull())),
        ),
        *[_range_rule(f) for f in contract.fields if f.low is not None or f.high is not None],
    ]


def with_verdict(rows: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add the first broken rejecting rule (`_rule`, null when accepted), why (`_reason`), and the names of broken warnings. Row-wise."""
    rejecting = [rule for rule in rules if rule.level == "reject"]
    warning = [rule for rule in rules if rule.level == "warn"]
    first = F.coalesce(*[F.when(rule.broken, F.struct(F.lit(rule.name).alias("name"), rule.reason.alias("reason"))) for rule in rejecting])
    warnings = F.array_compact(F.array(*[F.when(rule.broken, F.lit(rule.name)) for rule in warning])).cast("array<string>")
    judged = rows.withColumn("_verdict", first)
    return judged.withColumns({RULE: F.col("_verdict.name"), REASON: F.col("_verdict.reason"), WARNINGS: warnings}).drop("_verdict")


def _range_rule(f: Field) -> Rule:
    value = F.col(f.name)
    broken = (value < F.lit(f.low)) | (value > F.lit(f.high)) | F.isnan(value)
    found = F.format_string(f"{f.name} is %s, allowed are {f.low:g} to {f.high:g} {f.unit}".rstrip().replace("%", "%%").replace("%%s", "%s"), value)
    return Rule("out_of_range", "reject", broken, found)


def _suspects(contract: Contract, as_map: Column) -> Column:
    """Name the fields whose text does not read as their type, or say that a text stands where a number is expected."""
    numbers = [f for f in contract.fields if f.type != "string"]
    pattern = r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$"

    def odd(f: Field) -> Column:
        text = F.try_element_at(as_map, F.lit(f.name))
        return text.isNotNull() & ~text.rlike(r"^-?\d+$" if f.type == "timestamp" else pattern)

    named = _names(numbers, odd)
    return F.when(named != "", named).otherwise("a number is written as a text, or is too large")


def _names(fields: Sequence[Field], condition: Callable[[Field], Column]) -> Column:
    return F.concat_ws(", ", *[F.when(condition(f), F.lit(f.name)) for f in fields])
