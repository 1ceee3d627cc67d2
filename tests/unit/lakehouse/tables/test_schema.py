import pytest

from batch.maintain.maintenance_table import MAINTENANCE
from lakehouse.contract import Contract, Field
from lakehouse.domain import ByTime
from lakehouse.domain_names import DOMAINS
from lakehouse.registry import UnknownDomain, build_domain
from lakehouse.settings import Settings
from lakehouse.tables.schema import REJECTS, SOURCE_COLUMNS, Column, Table, contract_columns, quote


@pytest.mark.parametrize(("text", "literal"), [("it's", r"'it\'s'"), ("a\\b", r"'a\\b'"), ("", "''"), ("µg/m³", "'µg/m³'")])
def test_literal_keeps_quotes_and_backslashes(text: str, literal: str) -> None:
    assert quote(text) == literal


def test_statement_names_columns_partitions_comments_and_properties() -> None:
    table = Table(
        name="lh.gold.x",
        grain="one row per city's day",
        key=("a", "b"),
        columns=(Column("a", "STRING", "the city's key"), Column("b", "DATE")),
        partitioned_by=("years(b)",),
        properties={"write.distribution-mode": "none"},
    )
    ddl = table.ddl()
    assert ddl.startswith(
        "CREATE TABLE IF NOT EXISTS lh.gold.x (\n  a STRING COMMENT 'the city\\'s key',\n  b DATE COMMENT ''\n) USING iceberg\n"
    )
    assert "PARTITIONED BY (years(b))\nCOMMENT 'one row per city\\'s day'\n" in ddl
    for pair in (
        "'weir.grain' = 'one row per city\\'s day'",
        "'weir.key' = 'a,b'",
        "'write.distribution-mode' = 'none'",
        "'write.delete.granularity' = 'file'",
    ):
        assert pair in ddl
    assert "format-version" not in ddl, "the catalog's default, which a setting chooses"
    assert (table.names, table.namespace) == (("a", "b"), "lh.gold")
    appended = Table("lh.gold.y", "one row", (), (Column("a", "INT"),)).ddl()
    assert "PARTITIONED" not in appended and "'format-version' = '2'" in appended


def test_property_of_a_table_wins_over_that_of_all() -> None:
    table = Table("lh.gold.y", "one row", (), (Column("a", "INT"),), properties={"write.merge.mode": "copy-on-write"})
    assert "'write.merge.mode' = 'copy-on-write'" in table.ddl() and table.ddl().count("write.merge.mode") == 1


def test_tables_of_weir_itself_have_no_deletes() -> None:
    assert MAINTENANCE.all_properties["write.merge.mode"] == "copy-on-write"
    assert REJECTS.all_properties["write.merge.mode"] == "merge-on-read", "it has branches"


def test_columns_of_a_contract_carry_type_and_unit() -> None:
    contract = Contract(
        "t.v1",
        ("a",),
        ("a",),
        "b",
        (Field("a", "string", about="key"), Field("b", "timestamp"), Field("c", "double", about="air", unit="ppm")),
    )
    assert contract_columns(contract) == (Column("a", "STRING", "key"), Column("b", "TIMESTAMP", ""), Column("c", "DOUBLE", "air [ppm]"))
    assert [column.name for column in contract_columns(contract, ("c", "a"))] == ["c", "a"]


@pytest.mark.parametrize("name", list(DOMAINS))
def test_tables_of_a_domain_are_whole(name: str) -> None:
    domain = build_domain(name, Settings())
    bronze = [source.bronze for source in domain.sources]
    tables = [*bronze, *domain.merged, REJECTS, *(table for table, _ in domain.dimensions)]
    for table in tables:
        assert len(set(table.names)) == len(table.names), table.name
        assert set(table.key) <= set(table.names), table.name
        assert table.grain.startswith("one row per "), table.name
        assert all(column.about for column in table.columns), table.name
    for source in domain.sources:
        assert {*source.contract.names, *(column.name for column in SOURCE_COLUMNS)} <= set(source.bronze.names)
        assert {source.contract.version, *source.contract.key} <= set(source.silver.names)
    for table in domain.merged:
        kind = domain.kinds[table.name]
        assert not isinstance(kind, ByTime) or {kind.entity, kind.starts, kind.times.last} <= set(table.names), table.name
    for table, rows in domain.dimensions:
        assert rows and all(len(row) == len(table.columns) for row in rows), table.name


def test_unknown_domain_is_told_those_there_are() -> None:
    with pytest.raises(UnknownDomain, match="No domain 'air'; there are: air_quality"):
        build_domain("air", Settings())
