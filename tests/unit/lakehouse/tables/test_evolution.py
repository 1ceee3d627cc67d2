"""Is what adds told from what narrows?"""

import json
from dataclasses import replace

import pytest

from lakehouse.contract import Contract, Field
from lakehouse.tables.evolution import NarrowedSchema, Present, compare_contract, compare_table, contract_property
from lakehouse.tables.properties import COLUMNS_PROPERTY
from lakehouse.tables.schema import Column, Table

TABLE = Table(
    "lh.silver.x", "one row per a", ("a",), (Column("a", "STRING", "key"), Column("b", "DOUBLE", "air"), Column("c", "BIGINT", "rows"))
)
CONTRACT = Contract(
    "t.v1", ("a",), ("a",), "b", (Field("a", "string", required=True), Field("b", "timestamp", required=True), Field("c", "double"))
)


def present(*columns: tuple[str, str], ours: str | None = None, not_null: str = "", **properties: str) -> Present:
    """A table as it stands, made of (name, type); its comments are those of TABLE."""
    about = {c.name: c.about for c in TABLE.columns}
    made = {} if ours is None else {COLUMNS_PROPERTY: ours}
    held = tuple(Column(name, kind, about.get(name, "")) for name, kind in columns)
    return Present(held, {**TABLE.all_properties, **made, **properties}, frozenset(not_null))


WHOLE = (("a", "string"), ("b", "double"), ("c", "bigint"))


def altered(found: Present, table: Table = TABLE) -> list[str]:
    alterations, refusals = compare_table(found, table)
    assert refusals == []
    return [one.sql.removeprefix(f"ALTER TABLE {table.name} ") for one in alterations]


def refused(found: Present, table: Table = TABLE) -> list[str]:
    return [str(one).removeprefix(f"{table.name} ") for one in compare_table(found, table)[1]]


def test_table_that_is_as_specified_is_left_alone() -> None:
    assert altered(present(*WHOLE)) == []


@pytest.mark.parametrize(
    ("columns", "statements"),
    [
        ([WHOLE[0], WHOLE[2]], ["ADD COLUMN b DOUBLE COMMENT 'air' AFTER a"]),
        ([WHOLE[2]], ["ADD COLUMN a STRING COMMENT 'key' FIRST", "ADD COLUMN b DOUBLE COMMENT 'air' AFTER a"]),
        ([WHOLE[2], WHOLE[0], WHOLE[1]], ["ALTER COLUMN a FIRST", "ALTER COLUMN b AFTER a"]),
        ([WHOLE[0], WHOLE[1], ("c", "int")], ["ALTER COLUMN c TYPE BIGINT"]),
    ],
    ids=["in the middle", "two", "moved", "widened"],
)
def test_what_adds_or_widens_is_altered_in_the_specifications_order(columns: list[tuple[str, str]], statements: list[str]) -> None:
    assert altered(present(*columns, ours="a,b,c")) == statements


@pytest.mark.parametrize(("found", "expected"), [("float", "DOUBLE"), ("int", "BIGINT"), ("decimal(10,2)", "DECIMAL(12, 2)")])
def test_number_may_become_wider_and_not_narrower(found: str, expected: str) -> None:
    wide = replace(TABLE, columns=(Column("a", expected),), key=())
    held = Present((Column("a", found),), wide.all_properties)
    assert altered(held, wide) == [f"ALTER COLUMN a TYPE {expected}"]
    narrow = replace(wide, columns=(Column("a", found),))
    assert len(refused(Present((Column("a", expected),), wide.all_properties), narrow)) == 1


def test_changed_comment_and_property_are_brought_along() -> None:
    found = present(*WHOLE, **{"format-version": "3", "write.merge.mode": "copy-on-write", "user.own": "1"})
    changed = replace(TABLE, columns=(*TABLE.columns[:2], Column("c", "BIGINT", "it's more")))
    assert sorted(altered(found, changed)) == [
        r"ALTER COLUMN c COMMENT 'it\'s more'",
        "SET TBLPROPERTIES ('write.merge.mode' = 'merge-on-read')",
    ]
    appended = replace(TABLE, key=())
    held = Present(appended.columns, {**appended.all_properties, "format-version": "3"})
    assert altered(held, appended) == [], "a format is never taken back here"


def test_columns_are_noted_before_they_are_added() -> None:
    # A crash between the two must not leave a column that looks like somebody's own.
    first, second = altered(present(WHOLE[0], WHOLE[1], ours="a,b"))
    assert first == f"SET TBLPROPERTIES ('{COLUMNS_PROPERTY}' = 'a,b,c')"
    assert second.startswith("ADD COLUMN c")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (present(*WHOLE, ("d", "double"), ours="a,b,c,d"), "column d: found DOUBLE, expected none"),
        (present(*WHOLE[:2], ("c", "double")), "column c: found DOUBLE, expected BIGINT"),
        (present(WHOLE[0], ("b", "string"), WHOLE[2]), "column b: found STRING, expected DOUBLE"),
        (
            present(*WHOLE, ("d", "int"), ours="a,b,c", not_null="d"),
            "column d: found INT NOT NULL, not made by weir, expected one that takes nulls",
        ),
        (present(*WHOLE, ours="a,b"), "column c: found BIGINT, not made by weir, expected no column of that name before BIGINT"),
        (present(*WHOLE, **{"weir.key": "a,b"}), "key: found a,b, expected a"),
    ],
)
def test_what_narrows_is_refused(found: Present, said: str) -> None:
    assert refused(found) == [said]


def test_table_made_before_its_columns_were_noted_is_all_weirs_own() -> None:
    found = present(*WHOLE, ("d", "double"))
    older = replace(found, properties={name: value for name, value in found.properties.items() if name != COLUMNS_PROPERTY})
    assert refused(older) == ["column d: found DOUBLE, expected none"]


def test_column_of_somebodys_own_is_left_alone_wherever_it_stands() -> None:
    assert altered(present(("mine", "string"), WHOLE[0], ("own", "int"), *WHOLE[1:], ours="a,b,c")) == []
    added = altered(present(WHOLE[0], ("own", "int"), WHOLE[2], ours="a,b,c"))
    assert added == ["ADD COLUMN b DOUBLE COMMENT 'air' AFTER a"]


def test_contract_that_adds_an_optional_field_is_no_narrowing() -> None:
    recorded = contract_property(CONTRACT)
    assert compare_contract(None, CONTRACT, "t") == compare_contract(recorded, CONTRACT, "t") == []
    ranged = replace(CONTRACT, fields=(*CONTRACT.fields[:2], Field("c", "double", low=0), Field("d", "string")))
    assert compare_contract(recorded, ranged, "t") == []
    eased = replace(CONTRACT, fields=(Field("a", "string"), *CONTRACT.fields[1:]))
    assert compare_contract(recorded, eased, "t") == []


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (replace(CONTRACT, fields=CONTRACT.fields[:2]), "t field c: found an optional double before, expected none"),
        (
            replace(CONTRACT, fields=(*CONTRACT.fields[:2], Field("c", "string"))),
            "t field c: found an optional double before, expected an optional string",
        ),
        (
            replace(CONTRACT, fields=(*CONTRACT.fields[:2], Field("c", "double", required=True))),
            "t field c: found an optional double before, expected a required double",
        ),
        (
            replace(CONTRACT, fields=(*CONTRACT.fields, Field("d", "double", required=True))),
            "t field d: found no such field before, expected a required double",
        ),
        (replace(CONTRACT, key=("a", "b")), "t contract's key: found a, expected a, b"),
        (replace(CONTRACT, entity=("b",)), "t contract's entity: found a, expected b"),
        (replace(CONTRACT, version="c"), "t contract's version: found b, expected c"),
    ],
)
def test_contract_that_holds_less_is_refused(contract: Contract, said: str) -> None:
    assert [str(one) for one in compare_contract(contract_property(CONTRACT), contract, "t")] == [said]


ROLES = replace(
    CONTRACT,
    fields=(*CONTRACT.fields, Field("gone", "boolean"), Field("price", "decimal(10, 2)"), Field("at", "timestamp")),
    event_time="b",
    deleted="gone",
)


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (replace(ROLES, codec="avro"), "t contract's codec: found json, expected avro"),
        (replace(ROLES, event_time="at"), "t contract's event_time: found b, expected at"),
        (replace(ROLES, event_time=""), "t contract's event_time: found b, expected none"),
        (replace(ROLES, deleted=""), "t contract's deleted: found gone, expected none"),
        (
            replace(ROLES, fields=(*ROLES.fields[:4], Field("price", "decimal(9, 2)"), ROLES.fields[5])),
            "t field price: found an optional decimal(10, 2) before, expected an optional decimal(9, 2)",
        ),
        (
            replace(ROLES, fields=(*ROLES.fields[:4], Field("price", "decimal(12, 3)"), ROLES.fields[5])),
            "t field price: found an optional decimal(10, 2) before, expected an optional decimal(12, 3)",
        ),
        (
            replace(ROLES, fields=(*ROLES.fields[:5], Field("at", "timestamp_us"))),
            "t field at: found an optional timestamp before, expected an optional timestamp_us",
        ),
    ],
)
def test_role_codec_or_type_that_old_messages_do_not_have_is_refused(contract: Contract, said: str) -> None:
    assert [str(one) for one in compare_contract(contract_property(ROLES), contract, "t")] == [said]


def test_decimal_may_get_more_digits_before_the_point_and_roles_may_be_added() -> None:
    longer = replace(ROLES, fields=(*ROLES.fields[:4], Field("price", "decimal(12,2)"), ROLES.fields[5]))
    assert compare_contract(contract_property(ROLES), longer, "t") == []
    assert compare_contract(contract_property(replace(ROLES, event_time="", deleted="")), ROLES, "t") == []


def test_avro_fields_change_with_a_wire_version_of_their_own_alone() -> None:
    first = replace(CONTRACT, codec="avro")
    longer = (*first.fields, Field("d", "long"))
    second = replace(first, fields=longer, wire_version=2, former=(first.fields,))
    recorded = contract_property(first)
    assert compare_contract(recorded, second, "t") == []
    told = "a string required, b timestamp required, c double"
    for contract, expected in (
        (replace(first, fields=longer), f"{told}, d long"),
        (replace(second, former=(longer,)), f"{told}, d long"),
        (replace(first, fields=(first.fields[1], first.fields[0], first.fields[2])), "b timestamp required, a string required, c double"),
        (replace(first, fields=(*first.fields[:1], Field("b", "timestamp"), first.fields[2])), "a string required, b timestamp, c double"),
    ):
        assert [str(one) for one in compare_contract(recorded, contract, "t")] == [f"t wire version 1: found {told}, expected {expected}"]
    assert [one.named for one in compare_contract(contract_property(second), first, "t")] == ["wire version 2", "field d"]


def test_contract_recorded_before_codecs_and_roles_were_known_goes_on() -> None:
    before = json.loads(contract_property(CONTRACT))
    older = json.dumps({name: before[name] for name in ("topic", "entity", "key", "version", "fields")})
    assert compare_contract(older, replace(CONTRACT, event_time="b"), "t") == []
    as_avro = [str(one) for one in compare_contract(older, replace(CONTRACT, codec="avro"), "t")]
    assert as_avro == ["t contract's codec: found json, expected avro"]


def test_another_topic_has_a_contract_of_its_own() -> None:
    assert compare_contract(contract_property(CONTRACT), replace(CONTRACT, topic="t.v2", fields=CONTRACT.fields[:2]), "t") == []


def test_error_names_what_was_found_and_the_ways_out_in_one_line() -> None:
    refusals = compare_table(present(*WHOLE, ("d", "double"), ours="a,b,c,d"), TABLE)[1]
    said = str(NarrowedSchema(refusals))
    assert "\n" not in said
    # What `weir status` shows of a driver that ended so.
    assert all(part in said[:290] for part in ("nothing was written", "WEIR_HOME", "lh.silver.x column d: found DOUBLE, expected none"))
