"""Do tables that an older version made become what the specification says, and is nothing touched where it is refused?"""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import cast

import pytest
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from lakehouse.domains.dates.tables import DIM_DATE, date_rows
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.create import create_missing, look
from lakehouse.tables.evolution import NarrowedSchema
from lakehouse.tables.schema import Column, Table
from lakehouse.write.dimensions import write_dimensions
from lakehouse.write.merge import merge_rows
from lakehouse.write.plain_rows import relation
from lakehouse.write.small_batches.row_delta import DeltaWriter

NOW = Table(
    "lh.silver.x",
    "one row per a",
    ("a",),
    (
        Column("a", "STRING", "the key"),
        Column("b", "DOUBLE", "air [µg/m³]"),
        Column("c", "BIGINT", "it's rows"),
        Column("d", "TIMESTAMP", "when"),
    ),
)


def test_table_of_an_older_version_gets_columns_types_and_comments_and_keeps_its_rows(session: SparkSession) -> None:
    session.sql("CREATE NAMESPACE lh.silver")
    session.sql(
        f"CREATE TABLE {NOW.name} (a STRING, c INT COMMENT 'rows') USING iceberg TBLPROPERTIES "
        "('format-version' = '2', 'write.delete.mode' = 'merge-on-read', 'weir.key' = 'a')"
    )
    session.sql(f"INSERT INTO {NOW.name} SELECT /*+ COALESCE(1) */ * FROM VALUES ('old', 1), ('older', 2)")
    session.sql(f"DELETE FROM {NOW.name} WHERE a = 'older'")
    deletes = session.sql(f"SELECT file_format FROM {NOW.name}.delete_files").collect()
    assert [row["file_format"] for row in deletes] == ["PARQUET"]
    with capture_logs() as logs:
        create_missing(session, [NOW])
    assert {(one["table"], one["what"], one["named"]) for one in logs} >= {
        (NOW.name, "column added", "b"),
        (NOW.name, "column added", "d"),
        (NOW.name, "column widened", "c"),
        (NOW.name, "comment changed", "c"),
        (NOW.name, "property set", "write.delete.granularity"),
    }
    held = look(session, [NOW])[NOW.name]
    assert [(c.name, c.type.upper(), c.about) for c in held.columns] == [(c.name, c.type, c.about) for c in NOW.columns]
    assert held.properties.items() >= NOW.all_properties.items()
    assert DeltaWriter(session, NOW).unfit() == ""  # also of the order of the columns
    when = datetime(2024, 3, 1, tzinfo=UTC)
    merge_rows(relation(session, NOW, [("old", 1.5, 3, when), ("new", None, 1 << 40, when)]), NOW)
    rows = session.table(NOW.name).select("a", "b", "c").orderBy("a").collect()
    assert [tuple(row) for row in rows] == [("new", None, 1 << 40), ("old", 1.5, 3)]
    with capture_logs() as logs:
        create_missing(session, [NOW])
    assert logs == []


def test_column_of_somebodys_own_survives_and_does_not_stop_what_is_written(session: SparkSession) -> None:
    appended = replace(NOW, name="lh.bronze.x", key=())
    create_missing(session, [NOW, appended])
    for table in (NOW, appended):
        session.sql(f"ALTER TABLE {table.name} ADD COLUMN own STRING AFTER a")
    longer = [replace(table, columns=(*table.columns, Column("e", "DOUBLE"))) for table in (NOW, appended)]
    create_missing(session, longer)
    when = datetime(2024, 3, 1, tzinfo=UTC)
    merge_rows(relation(session, longer[0], [("x", 1.0, 1, when, 2.5)]), longer[0])
    session.sql(f"UPDATE {NOW.name} SET own = 'mine'")
    merge_rows(relation(session, longer[0], [("x", 1.0, 2, when, 2.5), ("y", 1.0, 1, when, 2.5)]), longer[0])
    relation(session, longer[1], [("x", 1.0, 1, when, 2.5)]).writeTo(appended.name).append()
    assert [tuple(r) for r in session.table(NOW.name).select("a", "own", "c", "e").orderBy("a").collect()] == [
        ("x", "mine", 2, 2.5),
        ("y", None, 1, 2.5),
    ]
    assert [tuple(r) for r in session.table(appended.name).select("a", "own", "e").collect()] == [("x", None, 2.5)]


def test_nothing_is_altered_or_made_where_one_table_is_refused(session: SparkSession) -> None:
    create_missing(session, [NOW])
    before = look(session, [NOW])
    narrower = replace(NOW, columns=(*NOW.columns[:2], Column("c", "STRING", "now a text"), Column("f", "DOUBLE")))
    other = replace(NOW, name="lh.gold.y")
    with pytest.raises(
        NarrowedSchema, match=r"lh\.silver\.x column c: found BIGINT, expected STRING; .* column d: found TIMESTAMP, expected none"
    ):
        create_missing(session, [other, narrower])
    assert look(session, [NOW, other]) == before


def test_dates_of_an_older_version_become_todays_in_the_same_home(session: SparkSession) -> None:
    older = replace(DIM_DATE, columns=DIM_DATE.columns[:12])
    create_missing(session, [older])
    # As it was until 2026-11: from 2013 on, a fiscal year named for the year in which it ended.
    fiscal_year = older.names.index("fiscal_year")
    rows = [(*row[:fiscal_year], cast(int, row[fiscal_year]) + 1) for row in date_rows() if cast(date, row[1]).year >= 2013]
    merge_rows(relation(session, older, rows), older)
    domain = replace(build_domain("air_quality", Settings()), dimensions=((DIM_DATE, date_rows()),))
    create_missing(session, [DIM_DATE])
    write_dimensions(session, domain)
    assert sorted(tuple(row) for row in session.table(DIM_DATE.name).collect()) == date_rows()
    before = session.sql(f"SELECT count(*) FROM {DIM_DATE.name}.snapshots").collect()
    write_dimensions(session, domain)
    assert session.sql(f"SELECT count(*) FROM {DIM_DATE.name}.snapshots").collect() == before, "once is enough"
