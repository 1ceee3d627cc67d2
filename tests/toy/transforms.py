"""How do makers and items become the toy's derived tables? Pure functions of rows."""

from datetime import UTC, datetime, timedelta
from functools import reduce

from lakehouse.engine.functions import text
from lakehouse.engine.relation import Relation
from lakehouse.spans import Spans

HOUR = timedelta(hours=1)
# A row of `toy_hours` counts the sales of its hour and of the three before.
LOOK_BACK = 3 * HOUR
UNKNOWN = "unknown"


def to_makers(rows: Relation) -> Relation:
    """Shape accepted makers into silver. Row-wise."""
    return rows.select("maker_id", "maker_name", "country", "is_trusted", "is_gone", "changed_ts")


def to_items(rows: Relation) -> Relation:
    """Shape accepted items into silver, with the UTC day of the sale. Row-wise."""
    return rows.select(
        "item_id",
        "maker_id",
        "sold_ts",
        "CAST(sold_ts AS DATE) AS sold_date",
        "price",
        "is_new",
        "made_on",
        "remark",
        "is_gone",
        "changed_ts",
    )


def to_named_items(items: Relation, makers: Relation) -> Relation:
    """Name the maker of each item; one whose maker is not known shows the unknown one. One row per item.

    Bounded input: makers must hold those of the items.
    """
    # Unique on the right: silver has one row per maker.
    named = items.join(makers.select("maker_id", "maker_name", "country"), on=("maker_id",), how="left")
    return named.select(
        "item_id",
        "maker_id",
        f"coalesce(maker_name, {text(UNKNOWN)}) AS maker_name",
        f"coalesce(country, {text(UNKNOWN)}) AS country",
        "sold_date",
        "price",
        "coalesce(is_new, false) AS is_new",
    )


def to_maker_days(named: Relation) -> Relation:
    """Add up the sales of each maker's day. Bounded input: whole days of makers. One row per maker and day."""
    return named.select("maker_id", "sold_date AS day", "is_new", "price").group(
        ("maker_id", "day"),
        "count(1) AS items",
        "count(CASE WHEN is_new THEN 1 END) AS new_items",
        "CAST(sum(price) AS DECIMAL(22, 2)) AS revenue",
    )


def to_maker_totals(makers: Relation, days: Relation) -> Relation:
    """Add up all days of each known maker, sold or not. Bounded input: all days of the makers. One row per maker."""
    sold = days.group(
        ("maker_id",), "CAST(sum(items) AS BIGINT) AS items", "CAST(sum(revenue) AS DECIMAL(24, 2)) AS revenue", "max(day) AS last_day"
    )
    return makers.join(sold, on=("maker_id",), how="left").select(
        "maker_id",
        f"coalesce(maker_name, {text(UNKNOWN)}) AS maker_name",
        f"coalesce(country, {text(UNKNOWN)}) AS country",
        "coalesce(is_trusted, false) AS is_trusted",
        "coalesce(items, 0) AS items",
        "coalesce(revenue, CAST(0 AS DECIMAL(24, 2))) AS revenue",
        "last_day",
    )


def to_countries(totals: Relation) -> Relation:
    """Rank the countries by what their makers sold. Bounded input: all makers. One row per country."""
    sums = totals.group(
        ("country",),
        "count(1) AS makers",
        "count(CASE WHEN is_trusted THEN 1 END) AS trusted",
        "CAST(sum(revenue) AS DECIMAL(26, 2)) AS revenue",
    )
    place = "row_number() OVER (ORDER BY revenue DESC NULLS LAST, country NULLS FIRST)"
    return sums.select("country", "makers", "trusted", "revenue", f"CAST({place} AS INT) AS place")


def hours_reach(sold: Spans) -> Spans:
    """A sale is counted in its own hour and in the three after it."""
    return Spans.of((entity, _hour(start), _hour(end) + LOOK_BACK) for entity, start, end in sold.rows)


def hours_need(span: Spans) -> Spans:
    """The sales that the hours of a span are made of: those of the span and the three hours before, to the end of its last hour."""
    return Spans.of((entity, start - LOOK_BACK, end + HOUR) for entity, start, end in span.rows)


def to_hours(items: Relation) -> Relation:
    """Count each maker's sales by hour, with those of the three hours before. Bounded input. One row per maker and hour with either."""
    first, *others = (
        items.select("maker_id", f"date_trunc('hour', sold_ts) + INTERVAL {later} HOURS AS hour_ts", f"{later} = 0 AS is_own")
        for later in range(4)
    )
    counted = reduce(lambda one, other: one.union(other), others, first)
    return counted.group(("maker_id", "hour_ts"), "count(CASE WHEN is_own THEN 1 END) AS sold", "count(1) AS sold_of_four")


def runs_reach(hours: Spans) -> Spans:
    """A changed hour may join the runs beside it."""
    return hours


def runs_need(span: Spans) -> Spans:
    """The hour beside a span tells whether a run ends there."""
    return span.widened(before=HOUR, after=HOUR)


def to_runs(hours: Relation) -> Relation:
    """Find runs of hours without a gap. Bounded input: whole runs. One row per maker and first hour."""
    ranked = hours.select(
        "maker_id",
        "hour_ts",
        "sold",
        "CAST(floor(unix_seconds(hour_ts) / 3600) AS BIGINT) - row_number() OVER (PARTITION BY maker_id ORDER BY hour_ts) AS run",
    )
    runs = ranked.group(("maker_id", "run"), "min(hour_ts) AS start_ts", "max(hour_ts) AS end_ts", "CAST(sum(sold) AS BIGINT) AS sold")
    return runs.select("maker_id", "start_ts", "end_ts", "sold")


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
