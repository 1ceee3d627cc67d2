"""How are tables rebuilt in place? Days of silver and gold piece by piece, with the table lock, and dimensions in one commit each."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import date, timedelta

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from batch.bronze_since import check_whole
from batch.compare import Comparison
from batch.rebuild.compare_frames import compare_frames
from batch.rebuild.silver_part import changes_of, rebuild_silver_part, sources_in_time, spans_of
from lakehouse.apply import ApplyOptions, refresh_derived
from lakehouse.domain import Domain
from lakehouse.locks.table_locks import table_lock
from lakehouse.settings import Settings
from lakehouse.write.plain_rows import batch_properties, overwrite_rows, relation
from lakehouse.write.publishing import look_before_writing
from lakehouse.write.small_batches.session_tuning import conf_for_many, session_conf

# The approximate number of silver's rows in a piece; the stream waits while one is rebuilt.
PIECE_ROWS = 200_000


def rebuild_in_place(
    settings: Settings, domain: Domain, spark: SparkSession, is_silver: bool, days: tuple[date, date], report: Callable[[date], None]
) -> None:
    """Rebuild the rows that some days affect. Safe to repeat, also after an interruption.

    While it runs, days that are done follow the current rules and later days the older ones.

    Args:
        settings: with the catalog.
        domain: the domain to rebuild.
        spark: the session.
        is_silver: rebuild silver from bronze too; otherwise gold only.
        days: UTC days of event time, both included.
        report: called with the last day of each piece that is done.

    Raises:
        OtherEdition: gold was computed by another edition, and must be rebuilt as a whole.
        NotWhole: bronze no longer has the rows from which silver is computed.
    """
    properties = batch_properties(f"rebuild {domain.name}", 0)
    vanishing = replace(domain, derived=[replace(one, vanishes=True) for one in domain.derived])
    if is_silver:
        check_whole(spark, domain, days)
    pieces, rows = _pieces(spark, domain, days)
    for since, until in pieces:
        with table_lock(settings, domain.name), session_conf(spark, conf_for_many(rows // len(pieces))):
            look_before_writing(spark, domain)
            spans = spans_of(spark, domain, (since, until))
            if is_silver:
                rebuild_silver_part(spark, vanishing, spans, properties)
            elif changes := changes_of(vanishing, spans):
                refresh_derived(spark, vanishing, changes, ApplyOptions(properties=properties))
        report(until)


def rebuild_dimensions(settings: Settings, domain: Domain, spark: SparkSession, names: Collection[str], writing: bool) -> list[Comparison]:
    """Replace the rows of dimensions by the configured ones, with one commit each; rows that are not configured are deleted.

    Args:
        settings: with the catalog.
        domain: the domain with the dimensions.
        spark: the session.
        names: of the tables.
        writing: whether to write; false only compares.
    """
    compared = []
    for table, rows in domain.dimensions:
        if table.name in names:
            wanted = relation(spark, table, rows)
            with table_lock(settings, domain.name):
                compared.append(compare_frames(table, spark.table(table.name), wanted))
                if writing and compared[-1].differences:
                    overwrite_rows(wanted, table, {})
    return compared


def _pieces(spark: SparkSession, domain: Domain, days: tuple[date, date]) -> tuple[list[tuple[date, date]], int]:
    """Split days into pieces with a bounded number of silver's rows, or of one day; also return the number of rows."""
    first, last = days
    rows = sum(
        spark.table(source.silver.name).where(F.to_date(kind.starts).between(F.lit(first), F.lit(last))).count()
        for source, kind in sources_in_time(domain)
    )
    whole = (last - first).days + 1
    step = max(1, whole * PIECE_ROWS // max(rows, PIECE_ROWS))
    return [(first + timedelta(days=n), min(last, first + timedelta(days=n + step - 1))) for n in range(0, whole, step)], rows
