"""Is a table read as it was at the end of a day, and is a day that is not there refused in a sentence?"""

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from lakehouse.query.reader import Reader
from lakehouse.query.table_view import NoTableTagged, NotTagged
from tests.unit.lakehouse.conftest import House
from tests.unit.lakehouse.query.test_query_cli import weir

TAGGED, LATER = date(2024, 1, 2), date(2024, 1, 9)
DAYS = "gold.fact_city_daily"


@pytest.fixture
def tagged(house: House) -> House:
    """Give a home whose gold has tags of two days; after them a row and a column were added."""
    table = house.catalog.load_table(DAYS)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    for day in (TAGGED, LATER):
        table.manage_snapshots().create_tag(snapshot.snapshot_id, f"day-{day}").commit()
    table.manage_snapshots().create_tag(snapshot.snapshot_id, "before-the-move").commit()
    with table.update_schema() as update:
        update.add_column("remark", StringType())
    row = {"location_key": "hue", "date_utc": TAGGED, "max_aqi": 40, "avg_aqi": 20.0, "remark": "new"}
    table.append(pa.Table.from_pylist([row], schema=house.catalog.load_table(DAYS).schema().as_arrow()))
    return house


def test_rows_and_columns_are_those_of_the_day(tagged: House) -> None:
    with Reader(tagged.settings) as reader:
        assert reader.query(f"SELECT count(*), count(remark) FROM {DAYS}").rows == [(4, 1)]
    with Reader(tagged.settings, TAGGED) as reader:
        found = reader.query(f"SELECT * FROM {DAYS} ORDER BY ALL")
    assert found.columns == ("location_key", "date_utc", "max_aqi", "avg_aqi")
    assert [row[0] for row in found.rows] == ["danang", "hanoi", "hanoi"]


def test_a_day_without_a_tag_names_the_table_its_days_and_the_nearest(tagged: House) -> None:
    with Reader(tagged.settings, date(2024, 1, 4)) as reader, pytest.raises(NotTagged) as caught:
        reader.query(f"SELECT count(*) FROM {DAYS}")
    assert str(caught.value) == (
        "lh.gold.fact_city_daily cannot be read as of 2024-01-04: it has no tag day-2024-01-04. "
        "It has 2 tagged day(s), 2024-01-02 to 2024-01-09; the nearest is 2024-01-02."
    )


@pytest.mark.parametrize("name", ["silver.trades", "lh.ops.batches"])
def test_a_table_without_tags_fails_only_the_query_that_names_it(tagged: House, name: str) -> None:
    with Reader(tagged.settings, TAGGED) as reader:
        assert reader.query(f"SELECT count(*) FROM {DAYS}").rows == [(3,)]
        with pytest.raises(
            NotTagged, match=r"no tag day-2024-01-02\. It has no tagged days: `weir maintain` tags .* Without --as-of"
        ) as caught:
            reader.query(f"SELECT count(*) FROM {DAYS}, {name}")
    assert str(caught.value).startswith("lh." + name.removeprefix("lh."))


def test_the_listing_has_the_tables_of_the_day_with_their_columns_and_rows(tagged: House) -> None:
    home = tagged.settings.home
    (table,) = json.loads(weir(home, "query", "--as-of", str(TAGGED), "--json").stdout)
    assert (table["table"], table["rows"]) == ("lh.gold.fact_city_daily", 3)
    assert [column["name"] for column in table["columns"]] == ["location_key", "date_utc", "max_aqi", "avg_aqi"]
    with Reader(tagged.settings, date(2023, 12, 31)) as reader, pytest.raises(NoTableTagged, match="tags of 2024-01-02 to 2024-01-09"):
        list(reader.tables())


def test_the_command_reads_the_day_and_says_in_one_sentence_why_it_cannot(tagged: House) -> None:
    home = tagged.settings.home
    ran = weir(home, "query", f"SELECT count(*) AS n FROM {DAYS}", "--as-of", str(TAGGED), "--json")
    assert json.loads(ran.stdout) == [{"n": 3}], ran.stderr
    ran = weir(home, "query", "SELECT * FROM bronze.trades", "--as-of", str(TAGGED))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("weir: lh.bronze.trades cannot be read as of 2024-01-02")


@pytest.mark.parametrize(
    ("days_ahead", "why"), [(0, "that day has not ended yet"), (1, "that day lies in the future"), (None, "is no day, expected YYYY-MM-DD")]
)
def test_a_day_that_cannot_be_is_wrong_usage(tagged: House, days_ahead: int | None, why: str) -> None:
    day = "2024-13-01" if days_ahead is None else str(datetime.now(UTC).date() + timedelta(days=days_ahead))
    ran = weir(tagged.settings.home, "query", "--as-of", day)
    assert ran.returncode == 2
    assert why in " ".join(ran.stderr.replace("│", " ").split())
