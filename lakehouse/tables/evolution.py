"""May a table, and the contract behind it, become what the specification says? What must be altered, and what is refused.

Adding is allowed, and so is widening a number: old rows have null, and old files are read as the wider type. Narrowing is not: written data
would be lost, or would be read as something else. This module only compares; `create.py` looks at the tables, refuses before anything is
written, and alters.

A table's properties say how weir created it: `weir.columns`, so that a column that somebody else added is left alone, and for bronze
`weir.contract`, so that a contract cannot narrow in a way that the columns do not show.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.codecs.field_types import field_type
from lakehouse.contract import Contract
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.tables.properties import COLUMNS_PROPERTY, KEY_PROPERTY
from lakehouse.tables.schema import Column, Table, quote

# Iceberg reads old files of these as the wider type (specification, schema evolution); a decimal may gain digits as well.
WIDER = {("int", "bigint"), ("float", "double")}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass(frozen=True, slots=True)
class Present:
    """A table as it stands: its columns in order, those of them that take no nulls, and its properties."""

    columns: tuple[Column, ...]
    properties: Mapping[str, str]
    not_null: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Alteration:
    """One statement that brings a table nearer to its specification, and what to say of it in the log."""

    table: str
    what: str
    named: str
    found: str
    expected: str
    sql: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One difference that no alteration may bridge; `named` is a column, a property or a field."""

    table: str
    named: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.table} {self.named}: found {self.found}, expected {self.expected}"


class NarrowedSchema(LakehouseError, Fatal):
    """The specification holds less than the tables do, or something else."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(
            # The way out first, and short: `weir status` shows 300 characters of a part's last line.
            "This version would lose what the tables hold; nothing was written. Run the version that wrote them, restore what is gone, or "
            "publish a new version of the topic under a new WEIR_HOME: "
            f"{'; '.join(map(str, refusals))}. A column of your own, which weir did not make, is left alone where it takes nulls and is "
            f"not named in the table's property {COLUMNS_PROPERTY}."
        )
        self.refusals = tuple(refusals)


def compare_table(present: Present, table: Table) -> tuple[list[Alteration], list[Refusal]]:
    """Return the alterations that a table needs to match its specification, in order, and what forbids them.

    A table made before `weir.columns` was kept counts as weir's own in all its columns.
    """
    return _alterations(present, table), _refusals(present, table)


def contract_property(contract: Contract) -> str:
    """Write what of a contract must not narrow; ranges may, they are rules."""
    versions = (*contract.former, contract.fields) if contract.codec == "avro" else ()
    return json.dumps(
        {
            "topic": contract.topic,
            "entity": contract.entity,
            "key": contract.key,
            "version": contract.version,
            "codec": contract.codec,
            "event_time": contract.event_time,
            "deleted": contract.deleted,
            "fields": {f.name: {"type": f.kind.name, "required": f.required} for f in contract.fields},
            # By these Avro's bytes in bronze are read for as long as they stand there: in order, of each wire version.
            "wire_versions": [[[f.name, f.kind.name, f.required] for f in fields] for fields in versions],
        }
    )


def compare_contract(recorded: str | None, contract: Contract, table: str) -> list[Refusal]:
    """Find what a contract lacks compared with the one recorded for the same topic.

    Args:
        recorded: the property of the bronze table, null where none was written yet.
        contract: of the domain as it is now.
        table: bronze's name.
    """
    if recorded is None:
        return []
    # A version that did not record these knew JSON alone, and no roles.
    before: Any = {"codec": "json", "event_time": "", "deleted": "", "wire_versions": []} | json.loads(recorded)
    now: Any = json.loads(contract_property(contract))
    if before["topic"] != now["topic"]:
        return []
    found = [
        Refusal(table, f"contract's {name}", _text_of(before[name]), _text_of(now[name]))
        for name in ("entity", "key", "version", "codec")
        if before[name] != now[name]
    ]
    found += [
        Refusal(table, f"contract's {name}", before[name], now[name] or "none")
        for name in ("event_time", "deleted")
        if before[name] and before[name] != now[name]
    ]
    if before["codec"] == now["codec"]:
        found += _changed_versions(before["wire_versions"], now["wire_versions"], table)
    found += [
        Refusal(table, f"field {name}", f"{_field(f)} before", "none") for name, f in before["fields"].items() if name not in now["fields"]
    ]
    for name, f in now["fields"].items():
        old = before["fields"].get(name)
        # Records without it are in the topic, and old producers go on sending them.
        if f["required"] and not (old or {}).get("required"):
            found.append(Refusal(table, f"field {name}", f"{_field(old) if old else 'no such field'} before", _field(f)))
        elif old and not field_type(old["type"]).may_become(field_type(f["type"])):
            found.append(Refusal(table, f"field {name}", f"{_field(old)} before", _field(f)))
    return found


def _changed_versions(before: Sequence[Any], now: Sequence[Any], table: str) -> Iterable[Refusal]:
    """Return which wire versions of Avro have other fields than the messages that are there were written by."""
    for version, fields in enumerate(before, start=1):
        expected = now[version - 1] if version <= len(now) else []
        if fields != expected:
            yield Refusal(table, f"wire version {version}", _listed(fields), _listed(expected) or "none")


def _refusals(present: Present, table: Table) -> list[Refusal]:
    ours = present.properties.get(COLUMNS_PROPERTY)
    made = {c.name for c in present.columns} if ours is None else set(ours.split(","))
    specified = {c.name: c for c in table.columns}
    found = []
    key = present.properties.get(KEY_PROPERTY)
    if key is not None and key != ",".join(table.key):
        found.append(Refusal(table.name, "key", key or "none", ",".join(table.key) or "none"))
    for column in present.columns:
        wanted = specified.get(column.name)
        named = f"column {column.name}"
        if wanted is None and column.name in made:
            found.append(Refusal(table.name, named, column.type.upper(), "none"))
        elif wanted is None and column.name in present.not_null:
            found.append(Refusal(table.name, named, f"{column.type.upper()} NOT NULL, not made by weir", "one that takes nulls"))
        elif wanted is not None and column.name not in made:
            found.append(
                Refusal(table.name, named, f"{column.type.upper()}, not made by weir", f"no column of that name before {wanted.type}")
            )
        elif wanted is not None and _type(column) != _type(wanted) and not _is_wider(_type(column), _type(wanted)):
            found.append(Refusal(table.name, named, column.type.upper(), wanted.type.upper()))
    return found


def _alterations(present: Present, table: Table) -> list[Alteration]:
    """Properties first: a crash after a column was added must not leave it as one that weir did not make."""
    return [*_property_changes(present.properties, table), *_column_changes(present.columns, table)]


def _property_changes(present: Mapping[str, str], table: Table) -> Iterable[Alteration]:
    for name, expected in table.all_properties.items():
        found = present.get(name)
        # A format is never taken back: somebody's readers may be the reason for a newer one.
        if found == expected or (name == "format-version" and int(found or 0) >= int(expected)):
            continue
        sql = f"ALTER TABLE {table.name} SET TBLPROPERTIES ({quote(name)} = {quote(expected)})"
        yield Alteration(table.name, "property set", name, found or "", expected, sql)


def _column_changes(present: Sequence[Column], table: Table) -> Iterable[Alteration]:
    # The order counts among the columns of the specification only; somebody's own may stand between them.
    before = {c.name: c for c in present}
    order = [c.name for c in present if c.name in table.names]
    for n, column in enumerate(table.columns):
        held = before.get(column.name)
        place = f"AFTER {table.columns[n - 1].name}" if n else "FIRST"
        alter = f"ALTER TABLE {table.name} ALTER COLUMN {column.name}"
        if held is None:
            order.insert(n, column.name)
            sql = f"ALTER TABLE {table.name} ADD COLUMN {column.name} {column.type} COMMENT {quote(column.about)} {place}"
            yield Alteration(table.name, "column added", column.name, "", column.type, sql)
            continue
        if order[n] != column.name:
            order.remove(column.name)
            order.insert(n, column.name)
            yield Alteration(table.name, "column moved", column.name, "", place, f"{alter} {place}")
        if _type(held) != _type(column):
            yield Alteration(table.name, "column widened", column.name, held.type.upper(), column.type, f"{alter} TYPE {column.type}")
        if held.about != column.about:
            yield Alteration(table.name, "comment changed", column.name, held.about, column.about, f"{alter} COMMENT {quote(column.about)}")


def _type(column: Column) -> str:
    return column.type.lower().replace(" ", "")


def _is_wider(found: str, expected: str) -> bool:
    old, new = _DECIMAL.fullmatch(found), _DECIMAL.fullmatch(expected)
    if old and new:
        return old[2] == new[2] and int(new[1]) >= int(old[1])
    return (found, expected) in WIDER


def _text_of(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _listed(fields: Sequence[Any]) -> str:
    return ", ".join(f"{name} {type_}{' required' if required else ''}" for name, type_, required in fields)


def _field(f: Mapping[str, Any]) -> str:
    return f"{'a required' if f['required'] else 'an optional'} {f['type']}"
