"""How do makers and items become the toy's derived tables? Pure functions of rows."""

from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.spans import Spans

HOUR = timedelta(hours=1)
# A row of `toy_hours` counts the sales of its hour and of the three before.
LOOK_BACK = 3 * HOUR
UNKNOWN = "unknown"


def to_makers(rows: DataFrame) -> DataFrame:
    """Shape accepted makers into silver. Row-wise."""
    return rows.select("maker_id", "maker_name", "country", "is_trusted", "is_gone", "changed_ts")


def to_items(rows: DataFrame) -> DataFrame:
    """Shape accepted items into silver, with the UTC day of the sale. Row-wise."""
    return rows.selectExpr(
        "item_id",
        "maker_id",
        "sold_ts",
        "to_date(sold_ts) AS sold_date",
        "price",
        "is_new",
        "made_on",
        "remark",
        "is_gone",
        "changed_ts",
    )


def to_named_items(items: DataFrame, makers: DataFrame) -> DataFrame:
    """Name the maker of each item; one whose maker is not known shows the unknown one. One row per item.

    Bounded input: makers must hold those of the items.
    """
    # Unique on the right: silver has one row per maker.
    named = items.join(makers.select("maker_id", "maker_name", "country"), on="maker_id", how="left")
    return named.selectExpr(
        "item_id",
        "maker_id",
        f"coalesce(maker_name, '{UNKNOWN}') AS maker_name",
        f"coalesce(country, '{UNKNOWN}') AS country",
        "sold_date",
        "price",
        "coalesce(is_new, false) AS is_new",
    )


def to_maker_days(named: DataFrame) -> DataFrame:
    """Add up the sales of each maker's day. Bounded input: whole days of makers. One row per maker and day."""
    return named.groupBy("maker_id", F.col("sold_date").alias("day")).agg(
        F.count(F.lit(1)).alias("items"),
        F.count_if("is_new").alias("new_items"),
        F.expr("CAST(sum(price) AS DECIMAL(22, 2)) AS revenue"),
    )


def to_maker_totals(makers: DataFrame, days: DataFrame) -> DataFrame:
    """Add up all days of each known maker, sold or not. Bounded input: all days of the makers. One row per maker."""
    sold = days.groupBy("maker_id").agg(
        F.sum("items").alias("items"), F.expr("CAST(sum(revenue) AS DECIMAL(24, 2)) AS revenue"), F.max("day").alias("last_day")
    )
    return makers.join(sold, on="maker_id", how="left").selectExpr(
        "maker_id",
        f"coalesce(maker_name, '{UNKNOWN}') AS maker_name",
        f"coalesce(country, '{UNKNOWN}') AS country",
        "coalesce(is_trusted, false) AS is_trusted",
        "coalesce(items, 0) AS items",
        "coalesce(revenue, 0.00BD) AS revenue",
        "last_day",
    )


def to_countries(totals: DataFrame) -> DataFrame:
    """Rank the countries by what their makers sold. Bounded input: all makers. One row per country."""
    sums = totals.groupBy("country").agg(
        F.count(F.lit(1)).alias("makers"),
        F.count_if("is_trusted").alias("trusted"),
        F.expr("CAST(sum(revenue) AS DECIMAL(26, 2)) AS revenue"),
    )
    return sums.selectExpr(
        "country", "makers", "trusted", "revenue", "CAST(row_number() OVER (ORDER BY revenue DESC, country) AS INT) AS place"
    )


def hours_reach(sold: Spans) -> Spans:
    """A sale is counted in its own hour and in the three after it."""
    return Spans.of((entity, _hour(start), _hour(end) + LOOK_BACK) for entity, start, end in sold.rows)


def hours_need(span: Spans) -> Spans:
    """The sales that the hours of a span are made of: those of the span and the three hours before, to the end of its last hour."""
    return Spans.of((entity, start - LOOK_BACK, end + HOUR) for entity, start, end in span.rows)


def to_hours(items: DataFrame) -> DataFrame:
    """Count each maker's sales by hour, with those of the three hours before. Bounded input. One row per maker and hour with either."""
    hour = "date_trunc('HOUR', sold_ts) + make_dt_interval(0, later)"
    counted = items.crossJoin(items.sparkSession.range(4).withColumnRenamed("id", "later")).selectExpr(
        "maker_id", f"{hour.replace('later', 'CAST(later AS INT)')} AS hour_ts", "later = 0 AS is_own"
    )
    return counted.groupBy("maker_id", "hour_ts").agg(F.count_if("is_own").alias("sold"), F.count(F.lit(1)).alias("sold_of_four"))


def runs_reach(hours: Spans) -> Spans:
    """A changed hour may join the runs beside it."""
    return hours


def runs_need(span: Spans) -> Spans:
    """The hour beside a span tells whether a run ends there."""
    return span.widened(before=HOUR, after=HOUR)


def to_runs(hours: DataFrame) -> DataFrame:
    """Find runs of hours without a gap. Bounded input: whole runs. One row per maker and first hour."""
    ranked = hours.selectExpr(
        "maker_id",
        "hour_ts",
        "sold",
        "unix_timestamp(hour_ts) DIV 3600 - row_number() OVER (PARTITION BY maker_id ORDER BY hour_ts) AS run",
    )
    return (
        ranked.groupBy("maker_id", "run")
        .agg(F.min("hour_ts").alias("start_ts"), F.max("hour_ts").alias("end_ts"), F.sum("sold").alias("sold"))
        .select("maker_id", "start_ts", "end_ts", "sold")
    )


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
