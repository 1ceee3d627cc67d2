"""When is a bronze row good enough for silver? Rules as data, those that follow from a contract, and the verdict on a row.

Conditions are SQL over the columns of bronze that Spark and DuckDB both read (see `lakehouse/engine/functions.py`), reasons are Spark's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pyspark.sql import DataFrame

from lakehouse.codecs import avro_codec, json_codec
from lakehouse.codecs.choice import misfit, over
from lakehouse.contract import Contract, Field
from lakehouse.engine.functions import double

RULE, REASON, WARNINGS = "_rule", "_reason", "_warnings"
# The verdict on a message without a value, which Kafka calls a tombstone: it says nothing, so it is neither accepted nor rejected.
TOMBSTONE = "tombstone"
# Characters of a value that a reason shows.
_LONGEST_FOUND = 64
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
        reads_bytes: whether only a row of which no field could be read can break it. The condition reads the bytes, as Spark alone can.
    """

    name: str
    level: Literal["reject", "warn"]
    broken: str
    reason: str
    is_judged: bool = True
    reads_bytes: bool = False


def contract_rules(contract: Contract) -> list[Rule]:
    """Derive the rules that follow from a contract alone: readable, typed, required fields, ranges; in that order."""
    required = [f.name for f in contract.fields if f.required]
    return [
        *(_avro_rules(contract) if contract.codec == "avro" else _json_rules(contract)),
        *_required_rules(required),
        *[_range_rule(f) for f in contract.fields if f.kind.is_number and (f.type == "double" or f.low is not None or f.high is not None)],
    ]


def _json_rules(contract: Contract) -> list[Rule]:
    # The message itself is read only where nothing was typed; whatever is a JSON object reads as a map of texts.
    untyped, texts = untyped_sql(contract), json_codec.as_texts()
    said = ", ".join(f"try_element_at({texts}, '{name}')" for name in contract.names)
    suspects = ", ".join(
        f"CASE WHEN {over(f.kind.json.suspect, f'sent.`{f.name}`')} THEN {_odd(f, f'to_json(sent.`{f.name}`)')} END"
        for f in contract.fields
        if f.kind.json.suspect
    )
    named = f"element_at(transform(array({json_codec.as_sent(contract)}), sent -> concat_ws('; ', {suspects})), 1)"
    return [
        Rule("unparsable", "reject", f"{untyped} AND {texts} IS NULL", "'the message is not a JSON object'", reads_bytes=True),
        Rule(
            "wrong_type",
            "reject",
            f"{untyped} AND coalesce({said}) IS NOT NULL",
            f"coalesce(nullif({named}, ''), 'a field holds what is no value of its type')",
            reads_bytes=True,
        ),
    ]


def _avro_rules(contract: Contract) -> list[Rule]:
    untyped, parsing = untyped_sql(contract), avro_codec.parsing(contract)
    is_read, versions = avro_codec.is_read("parsed"), ", ".join(map(str, avro_codec.known_versions(contract)))
    read = {f: f"parsed.`{f.name}`" for f in contract.fields}
    misfits = {f: condition for f, column in read.items() if (condition := misfit(f.kind.avro, column))}
    any_misfit = " OR ".join(misfits.values()) or "false"
    odd = ", ".join(f"CASE WHEN {condition} THEN {_odd(f, f'CAST({read[f]} AS STRING)')} END" for f, condition in misfits.items())
    return [
        Rule(
            "unknown_wire_version",
            "reject",
            f"{untyped} AND coalesce(wire_version NOT IN ({versions}), true)",
            f"concat(coalesce(concat('wire version ', wire_version), 'no wire version'), ', known: {versions}')",
            reads_bytes=True,
        ),
        Rule(
            "unparsable",
            "reject",
            f"{untyped} AND exists(array({parsing}), parsed -> NOT {is_read})",
            "concat('the bytes are no Avro record of wire version ', wire_version)",
            reads_bytes=True,
        ),
        Rule(
            "wrong_type",
            "reject",
            f"{untyped} AND exists(array({parsing}), parsed -> {any_misfit})",
            f"element_at(transform(array({parsing}), parsed -> concat_ws('; ', {odd or 'NULL'})), 1)",
            reads_bytes=True,
        ),
    ]


def _required_rules(names: Sequence[str]) -> list[Rule]:
    if not names:
        return []
    missing = " OR ".join(f"`{name}` IS NULL" for name in names)
    return [Rule("no_key", "reject", missing, f"concat('missing: ', {_names({name: f'`{name}` IS NULL' for name in names})})")]


def untyped_sql(contract: Contract) -> str:
    """Return the SQL condition that no field of a row could be read, or none was there."""
    return f"coalesce({', '.join(f'CAST(`{name}` AS STRING)' for name in contract.names)}) IS NULL"


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
    checks = [f"isnan(`{f.name}`)"] if f.type == "double" else []
    if f.type == "double" and (f.low is None or f.high is None):
        # JSON has no infinite number, but one with an exponent that no double has is read as such. Two bounds keep it out anyway.
        checks.append(f"abs(`{f.name}`) = CAST('Infinity' AS DOUBLE)")
    allowed = []
    if f.low is not None:
        checks.append(f"`{f.name}` < {_literal(f, f.low)}")
        allowed.append(f"from {_figure(f.low)}")
    if f.high is not None:
        checks.append(f"`{f.name}` > {_literal(f, f.high)}")
        allowed.append(f"up to {_figure(f.high)}")
    expected = " ".join([*(allowed or ["a finite number"]), f.unit]).strip()
    return Rule("out_of_range", "reject", f"({' OR '.join(checks)})", f"concat('{f.name} is ', `{f.name}`, ', allowed is {expected}')")


def _literal(f: Field, bound: float | Decimal) -> str:
    """Return a bound in the type of its field, so that nothing is rounded when they are compared."""
    if f.type == "double":
        return double(float(bound))
    if isinstance(bound, int):
        return str(bound)
    exact = Decimal(str(bound))
    scale = max(0, -int(exact.as_tuple().exponent))
    digits = len(f"{abs(exact):f}".replace(".", ""))
    return f"CAST('{exact:f}' AS DECIMAL({digits}, {scale}))"


def _figure(bound: float | Decimal) -> str:
    return f"{bound:f}" if isinstance(bound, Decimal) else f"{bound:g}"


def _odd(f: Field, found: str) -> str:
    """Return the SQL text of one field that holds no value of its type."""
    # A reason is read in Python, which takes no text with damaged bytes.
    return f"concat('{f.name} is ', left(make_valid_utf8({found}), {_LONGEST_FOUND}), ', expected {f.type}')"


def _names(conditions: Mapping[str, str]) -> str:
    cases = ", ".join(f"CASE WHEN {condition} THEN '{name}' END" for name, condition in conditions.items())
    return f"concat_ws(', ', {cases})"
