"""Which readings may enter silver? The rules of the domain, after those that follow from its contract."""

from collections.abc import Collection

from lakehouse.domains.air_quality.contract import HOURLY, MEASURES
from lakehouse.engine.functions import double, text
from lakehouse.rules import Rule, contract_rules

FIRST_YEAR = 2013  # the source's archive begins on 2013-01-01
FORECAST_DAYS = 7  # the source forecasts at most this far
CLOCK_LEAD_MINUTES = 60  # a producer's clock may lead Kafka's; a retrieval from the far future would win for ever
FEWEST_MEASURES = 3


def reading_rules(location_keys: Collection[str], left_out: Collection[str] = ()) -> list[Rule]:
    """Return the rules in the order they are tried; a reject names the first one broken.

    Args:
        location_keys: the known places.
        left_out: places that are on the list with a zone that is unknown.
    """
    refused = ", ".join(text(key) for key in left_out)
    arrived = "coalesce(kafka_ts, retrieved_ts)"
    known = ", ".join(text(key) for key in location_keys)
    present = " + ".join(f"CAST({m} IS NOT NULL AS INT)" for m in MEASURES.values())
    return [
        *contract_rules(HOURLY),
        *([_left_out(refused)] if refused else []),
        Rule("unknown_location", "reject", f"location_key NOT IN ({known})", "concat('no place ', location_key, ' in the locations file')"),
        Rule("off_hour", "reject", "unix_millis(ts_utc) % 3600000 <> 0", "concat('ts_utc is ', ts_utc, ', expected a full hour')"),
        Rule(
            "too_early", "reject", f"year(ts_utc) < {FIRST_YEAR}", f"concat('ts_utc is ', ts_utc, ', the archive begins in {FIRST_YEAR}')"
        ),
        Rule(
            "beyond_forecast",
            "reject",
            f"ts_utc > {arrived} + INTERVAL {FORECAST_DAYS} DAYS",
            f"concat('ts_utc is ', ts_utc, ', more than {FORECAST_DAYS} days after ', {arrived})",
        ),
        Rule(
            "retrieved_in_future",
            "reject",
            f"retrieved_ts > {arrived} + INTERVAL {CLOCK_LEAD_MINUTES} MINUTES",
            f"concat('retrieved_ts is ', retrieved_ts, ', but it arrived at ', {arrived})",
        ),
        Rule("few_measures", "warn", f"{present} < {FEWEST_MEASURES}", f"'fewer than {FEWEST_MEASURES} of the ten measures'"),
        Rule("fine_above_coarse", "warn", f"pm25 > pm10 * {double(1.5)}", "'pm25 far above pm10, of which it is a part'"),
    ]


def _left_out(refused: str) -> Rule:
    reason = "concat('the zone of ', location_key, ' in the locations file is unknown')"
    return Rule("place_left_out", "reject", f"location_key IN ({refused})", reason, is_judged=False)
