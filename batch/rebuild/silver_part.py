"""How is a span of silver made anew from bronze, with what follows from it? Rows that today's rules do not make go."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.apply import ApplyOptions, refresh_derived, to_rejects
from lakehouse.changes import ChangedSpans, Changes
from lakehouse.codecs.parse import retyped
from lakehouse.derive import to_silver
from lakehouse.domain import ByTime, Domain, Source
from lakehouse.locks.conflicts import until_accepted
from lakehouse.rules import with_verdict
from lakehouse.spans import Spans
from lakehouse.write.merge import only_in, replace_part, replace_rows
from lakehouse.write.small_batches.session_tuning import session_conf
from lakehouse.write.store import as_properties


def sources_in_time(domain: Domain) -> list[tuple[Source, ByTime]]:
    """List the sources whose silver is kept by time: only of these can single days be rebuilt."""
    return [(source, source.kind) for source in domain.sources if isinstance(source.kind, ByTime)]


def spans_of(spark: SparkSession, domain: Domain, days: tuple[date, date]) -> dict[str, Spans]:
    """Give the spans of some UTC days, both included, of every entity that bronze or silver has there, by the name of the silver table."""
    since, until = (datetime.combine(day, time(), UTC) for day in days)
    spans = {}
    for source, kind in sources_in_time(domain):
        found: set[object] = set()
        for table in (source.bronze, source.silver):
            rows = spark.table(table.name).where(F.to_date(kind.starts).between(*(F.lit(day) for day in days)))
            found |= {row[0] for row in rows.select(kind.entity).distinct().collect()} - {None}
        spans[source.silver.name] = Spans.of((entity, since, until + timedelta(days=1, microseconds=-1)) for entity in found)
    return spans


def changes_of(domain: Domain, spans: Mapping[str, Spans]) -> dict[str, Changes]:
    """Give the changes that spans of silver tables are."""
    kinds = {source.silver.name: kind for source, kind in sources_in_time(domain)}
    return {name: ChangedSpans(span, kinds[name].times) for name, span in spans.items() if span}


def rebuild_silver_part(
    spark: SparkSession,
    domain: Domain,
    spans: Mapping[str, Spans],
    properties: Mapping[str, str],
    bronze: Mapping[str, int | None] | None = None,
    is_beside: bool = False,
) -> None:
    """Bring silver, rejects and derived tables of some spans to what the domain's rules make of bronze. Safe to repeat.

    Args:
        spark: the session.
        domain: whose.
        spans: by the name of the silver table, which is kept by time, so that a span's rows follow from bronze's rows of the same span.
        properties: go into the snapshot of every commit.
        bronze: the snapshot of each bronze table that is read, by its name; the newest when left out.
        is_beside: whether the domain's tables are branches.
    """
    with session_conf(spark, as_properties(properties)):
        for source, kind in sources_in_time(domain):
            if span := spans.get(source.silver.name):
                snapshot = (bronze or {}).get(source.bronze.name)
                _one_anew(spark, domain, source, kind, span, f" VERSION AS OF {snapshot}" if snapshot else "")
    if changes := changes_of(domain, spans):
        refresh_derived(spark, domain, changes, ApplyOptions(properties=properties, is_beside=is_beside))


def _one_anew(spark: SparkSession, domain: Domain, source: Source, kind: ByTime, span: Spans, version: str) -> None:
    def replace() -> None:
        rows = spark.sql(f"SELECT * FROM {source.bronze.name}{version}")
        rows = retyped(only_in(rows, span, kind.times), source.contract)
        replace_part(to_silver(rows, source), source.silver, span, kind.times)
        judged = with_verdict(rows, source.rules)
        messages = to_rejects(judged, source, domain, only_rejected=False).select(*domain.rejects.key)
        present = spark.table(domain.rejects.name).join(messages, on=list(domain.rejects.key), how="left_semi")
        replace_rows(to_rejects(judged, source, domain), domain.rejects, present)

    until_accepted(replace)


def rejected(bronze: Iterable[tuple[Source, DataFrame]], domain: Domain) -> DataFrame:
    """Give the rows of the rejects table that follow from rows of bronze, by source."""
    frames = [to_rejects(with_verdict(rows, source.rules), source, domain) for source, rows in bronze]
    found = frames[0]
    for frame in frames[1:]:
        found = found.unionByName(frame)
    return found
