"""How is a span of silver rebuilt from bronze, with its rejects and derived tables? Rows that the rules no longer return are deleted."""

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
    """Return the sources whose silver is kept by time; only these can be rebuilt for single days."""
    return [(source, source.kind) for source in domain.sources if isinstance(source.kind, ByTime)]


def spans_of(spark: SparkSession, domain: Domain, days: tuple[date, date]) -> dict[str, Spans]:
    """Return, by the name of the silver table, the spans of UTC days, both included, of every entity with rows in bronze or silver then."""
    since, until = (datetime.combine(day, time(), UTC) for day in days)
    spans = {}
    for source, kind in sources_in_time(domain):
        entities: set[object] = set()
        for table in (source.bronze, source.silver):
            rows = spark.table(table.name).where(F.to_date(kind.starts).between(*(F.lit(day) for day in days)))
            entities |= {row[0] for row in rows.select(kind.entity).distinct().collect()} - {None}
        spans[source.silver.name] = Spans.of((entity, since, until + timedelta(days=1, microseconds=-1)) for entity in entities)
    return spans


def changes_of(domain: Domain, spans: Mapping[str, Spans]) -> dict[str, Changes]:
    """Return spans of silver tables as changes."""
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
    """Rebuild silver, rejects and derived tables in some spans from bronze by the domain's rules. Safe to repeat.

    Args:
        spark: the session.
        domain: the domain.
        spans: by the name of the silver table, which is kept by time, so that a span's rows depend only on bronze's rows in the same span.
        properties: of the snapshot of every commit.
        bronze: the snapshot of each bronze table that is read, by its name; the newest when left out.
        is_beside: whether the domain's tables are branches.
    """
    with session_conf(spark, as_properties(properties)):
        for source, kind in sources_in_time(domain):
            if span := spans.get(source.silver.name):
                snapshot = (bronze or {}).get(source.bronze.name)
                _rebuild_one(spark, domain, source, kind, span, f" VERSION AS OF {snapshot}" if snapshot else "")
    if changes := changes_of(domain, spans):
        refresh_derived(spark, domain, changes, ApplyOptions(properties=properties, is_beside=is_beside))


def _rebuild_one(spark: SparkSession, domain: Domain, source: Source, kind: ByTime, span: Spans, version: str) -> None:
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
    """Return the rows of the rejects table for rows of bronze, given by source."""
    frames = [to_rejects(with_verdict(rows, source.rules), source, domain) for source, rows in bronze]
    rejects = frames[0]
    for frame in frames[1:]:
        rejects = rejects.unionByName(frame)
    return rejects
