"""How are the small files of a stream joined? By the query that writes them, between two micro-batches.

A MERGE of a few rows adds a small data file to each partition it touches, and the next MERGE opens all of them, so without compaction each
micro-batch takes longer than the one before. Only small files are rewritten, into files of `TARGET_BYTES`, so the cost does not grow with
the table; maintenance turns those into large files. The query that merges also compacts, one after the other, because Iceberg refuses a
rewrite of files from which a running MERGE deletes.
"""

from collections.abc import Mapping

import structlog
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse.changes import ChangedSpans
from lakehouse.domain import ByTime, Domain
from lakehouse.parts import WHOLE, Part, join_parts
from lakehouse.spans import Spans
from lakehouse.tables.schema import quote
from lakehouse.write.dangling_deletes import dangling_deletes, drop_deletes
from lakehouse.write.merge import overlap

TARGET_BYTES = 8 << 20
OPTIONS = {
    "min-input-files": "8",
    "target-file-size-bytes": str(TARGET_BYTES),
    # Larger files are not rewritten, and not split.
    "max-file-size-bytes": str(1 << 40),
}

log = structlog.get_logger("weir.stream")


class Compactor:
    """Compacts each merged table of a domain after a number of MERGEs, at most one table after one micro-batch.

    Args:
        domain: whose tables.
        every: MERGEs into a table between two compactions of it; 0 never compacts.
    """

    def __init__(self, domain: Domain, every: int) -> None:
        self._every = every
        names = [table.name for table in domain.merged]
        # Staggered, so that no micro-batch waits for two compactions.
        self._merges = {name: number * every // len(names) for number, name in enumerate(names)}
        self._parts: dict[str, Part] = {}

    def after(self, spark: SparkSession, domain: Domain, touched: Mapping[str, Part]) -> str:
        """Count one micro-batch, and compact a table if it is due.

        Args:
            spark: the session of the micro-batch.
            domain: as the micro-batch was applied with.
            touched: the part of each silver table that it touched, by name; only tables that it touched.

        Returns:
            The table that was compacted; empty if none was.
        """
        if not self._every or not any(touched.values()):
            return ""
        for name, part in _reached(domain, touched).items():
            self._merges[name] += 1
            # For all entities, since files are chosen by time alone.
            bound = Spans.of(("", *times) for times in part.ranges) if isinstance(part, Spans) else WHOLE
            self._parts[name] = join_parts(self._parts.get(name, Spans(())), bound)
        due = max(self._merges, key=lambda name: self._merges[name])
        if self._merges[due] < self._every:
            return ""
        part, kind = self._parts.pop(due, WHOLE), domain.kinds[due]
        in_time = isinstance(part, Spans) and isinstance(kind, ByTime)
        _rewrite(spark, due, overlap(part.ranges, kind.starts, kind.starts) if in_time else "")  # type: ignore[union-attr]  # both are
        self._merges[due] = 0
        return due


def _reached(domain: Domain, touched: Mapping[str, Part]) -> dict[str, Part]:
    """Return the part of a table that touched parts of silver affect: spans where it is kept by time, else the whole table."""
    found = {name: part for name, part in touched.items() if part}
    for derived in domain.derived:
        for reads in derived.reads:
            if (part := found.get(reads.table.name)) is None:
                continue
            in_time = isinstance(part, Spans) and reads.times is not None
            reached = reads.reach(ChangedSpans(part, reads.times)) if in_time else WHOLE  # type: ignore[arg-type]  # both are
            found[derived.table.name] = join_parts(found.get(derived.table.name, Spans(())), reached)
    return found


def _rewrite(spark: SparkSession, table: str, where: str) -> None:
    catalog, _, name = table.partition(".")
    options = ", ".join(f"{quote(key)}, {quote(value)}" for key, value in OPTIONS.items())
    bound = f"where => {quote(where)}, " if where else ""
    try:
        done = spark.sql(
            f"CALL {catalog}.system.rewrite_data_files(table => {quote(name)}, strategy => 'binpack', {bound}options => map({options}))"
        ).collect()[0]
        # Iceberg counts their rows as deleted, though nothing is left to delete.
        if done["rewritten_data_files_count"] and (dangling := dangling_deletes(spark, table)):
            drop_deletes(spark, table, dangling)
    except (PySparkException, Py4JError) as error:
        # Nothing is lost: the files stay as they are, and the next compaction includes them.
        log.warning("not compacted", table=table, error=str(error).splitlines()[0][:300])
