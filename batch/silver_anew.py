"""How is a span of silver made anew from bronze, with what follows from it? Rows that today's rules do not make go."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.apply import as_properties, refresh_gold, to_rejects, to_silver
from lakehouse.conflicts import until_accepted
from lakehouse.domain import Domain
from lakehouse.few_rows import session_conf
from lakehouse.parse import retyped
from lakehouse.rules import with_verdict
from lakehouse.sinks.merge import only_in, replace_rows, replace_span
from lakehouse.spans import Spans


def spans_of(spark: SparkSession, domain: Domain, days: tuple[date, date]) -> Spans:
    """Give the spans of some UTC days, both included, of every entity that bronze or silver has there."""
    since, until = (datetime.combine(day, time(), UTC) for day in days)
    found: set[str] = set()
    for table in (domain.bronze, domain.silver):
        rows = spark.table(table.name).where(F.to_date(domain.event_time).between(*(F.lit(day) for day in days)))
        found |= {row[0] for row in rows.select(domain.entity).distinct().collect()} - {None}
    return Spans.of((entity, since, until + timedelta(days=1, microseconds=-1)) for entity in found)


def silver_anew(spark: SparkSession, domain: Domain, spans: Spans, properties: Mapping[str, str], bronze: int | None = None) -> None:
    """Bring silver, rejects and gold of some spans to what the domain's rules make of bronze. Safe to repeat.

    Args:
        spark: the session.
        domain: whose; the event time is part of silver's key, so that a span's rows follow from bronze's rows of the same span.
        spans: entities and times.
        properties: go into the snapshot of every commit.
        bronze: the snapshot of bronze that is read; the newest when left out.
    """
    version = f" VERSION AS OF {bronze}" if bronze else ""
    if not spans:
        return

    def replace() -> None:
        rows = spark.sql(f"SELECT * FROM {domain.bronze.name}{version}")
        rows = retyped(only_in(rows, spans, domain.entity, domain.event_time), domain.contract)
        replace_span(to_silver(rows, domain), domain.silver, domain.entity, spans, domain.event_time)
        judged = with_verdict(rows, domain.rules)
        messages = to_rejects(judged, domain, only_rejected=False).select(*domain.rejects.key)
        present = spark.table(domain.rejects.name).join(messages, on=list(domain.rejects.key), how="left_semi")
        replace_rows(to_rejects(judged, domain), domain.rejects, present)

    with session_conf(spark, as_properties(properties)):
        until_accepted(replace)
    refresh_gold(spark, domain, spans, properties)


def rejected(rows: DataFrame, domain: Domain) -> DataFrame:
    """Give the rows of the rejects table that follow from rows of bronze."""
    return to_rejects(with_verdict(rows, domain.rules), domain)
