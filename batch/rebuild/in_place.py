"""What is made anew in the tables themselves? Days of silver and gold, a piece at a time in turns with the stream; and dimensions."""

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

# A piece holds about so many rows of silver: the stream waits as long as one takes.
PIECE_ROWS = 200_000


def rebuild_in_place(
    settings: Settings, domain: Domain, spark: SparkSession, is_silver: bool, days: tuple[date, date], told: Callable[[date], None]
) -> None:
    """Make what some days reach anew. Safe to repeat, also after it was cut off.

    Until it has come to the end, the days before are by today's rules and those after by older ones.

    Args:
        settings: name the catalog.
        domain: whose.
        spark: the session.
        is_silver: silver too, from bronze; otherwise gold only.
        days: UTC days of event time, both included.
        told: is told of the last day of each piece that is done.

    Raises:
        OtherEdition: gold was made by another edition, and must be made anew as a whole.
        NotWhole: bronze no longer holds what silver is made of.
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
        told(until)


def rebuild_dimensions(settings: Settings, domain: Domain, spark: SparkSession, names: Collection[str], writing: bool) -> list[Comparison]:
    """Bring dimensions to the rows of the configuration, each in one commit, also where that means that rows go.

    Args:
        settings: name the catalog.
        domain: whose.
        spark: the session.
        names: of the tables.
        writing: False only compares.
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
    """Cut days so that a piece has a bounded number of silver's rows, or is one day; tell how many rows there are."""
    first, last = days
    rows = sum(
        spark.table(source.silver.name).where(F.to_date(kind.starts).between(F.lit(first), F.lit(last))).count()
        for source, kind in sources_in_time(domain)
    )
    whole = (last - first).days + 1
    step = max(1, whole * PIECE_ROWS // max(rows, PIECE_ROWS))
    return [(first + timedelta(days=n), min(last, first + timedelta(days=n + step - 1))) for n in range(0, whole, step)], rows
