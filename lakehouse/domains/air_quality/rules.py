"""Which readings may enter silver? The rules of the domain, after those that follow from its contract."""

from collections.abc import Collection

from pyspark.sql import functions as F

from lakehouse.domains.air_quality.contract import HOURLY, MEASURES
from lakehouse.rules import Rule, contract_rules

FIRST_YEAR = 2013  # the source's archive begins on 2013-01-01
FORECAST_DAYS = 7  # the source forecasts at most this far
CLOCK_LEAD_MINUTES = 60  # a producer's clock may lead Kafka's; a retrieval from the far future would win for ever
FEWEST_MEASURES = 3


def reading_rules(location_keys: Collection[str]) -> list[Rule]:
    """Give the rules in the order they are tried; a reject names the first one broken.

    Args:
        location_keys: the known places.
    """
    ts, retrieved = F.col("ts_utc"), F.col("retrieved_ts")
    arrived = F.coalesce("kafka_ts", "retrieved_ts")
    present = sum((F.col(m).isNotNull().cast("int") for m in MEASURES.values()), F.lit(0))
    return [
        *contract_rules(HOURLY),
        Rule("unknown_location", "reject", ~F.col("location_key").isin(*location_keys), F.format_string("no place %s in the locations file", "location_key")),
        Rule("off_hour", "reject", F.unix_millis(ts) % F.lit(3_600_000) != 0, F.format_string("ts_utc is %s, expected a full hour", ts.cast("string"))),
        Rule("too_early", "reject", F.year(ts) < FIRST_YEAR, F.format_string(f"ts_utc is %s, the archive begins in {FIRST_YEAR}", ts.cast("string"))),
        Rule(
            "beyond_forecast",
            "reject",
            ts > arrived + F.expr(f"INTERVAL {FORECAST_DAYS} DAYS"),
            F.format_string(f"ts_utc is %s, more than {FORECAST_DAYS} days after %s", ts.cast("string"), arrived.cast("string")),
        ),
        Rule(
            "retrieved_in_future",
            "reject",
            retrieved > arrived + F.expr(f"INTERVAL {CLOCK_LEAD_MINUTES} MINUTES"),
            F.format_string("retrieved_ts is %s, but it arrived at %s", retrieved.cast("string"), arrived.cast("string")),
        ),
        Rule("few_measures", "warn", present < FEWEST_MEASURES, F.lit(f"fewer than {FEWEST_MEASURES} of the ten measures")),
        Rule("fine_above_coarse", "warn", F.col("pm25") > F.col("pm10") * F.lit(1.5), F.lit("pm25 far above pm10, of which it is a part")),
    ]
