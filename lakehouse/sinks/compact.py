"""How do the many small files that a stream leaves become few? By the query that makes them, between two micro-batches.

A MERGE of a few rows adds a small data file to each partition it touches, and the next MERGE opens them all: without this a
micro-batch takes longer with every one before it. Only small files are rewritten, into files of `TARGET_BYTES`, so the cost
does not grow with the table; making those into large files is maintenance's work. Whoever merges also compacts, one after the
other: beside a running MERGE a rewrite of the files it deletes from would be refused.
"""

import structlog
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse.domain import Domain
from lakehouse.schema import quote
from lakehouse.sinks.merge import overlap
from lakehouse.spans import Spans

TARGET_BYTES = 8 << 20
OPTIONS = {
    "min-input-files": "8",
    "target-file-size-bytes": str(TARGET_BYTES),
    # Larger files are left alone, not split.
    "max-file-size-bytes": str(1 << 40),
}

log = structlog.get_logger("weir.stream")


class Compactor:
    """Compacts each merged table of a domain after a number of MERGEs, at most one table after one micro-batch.

    Args:
        domain: whose silver and gold.
        every: MERGEs into a table between two compactions of it; 0 never compacts.
    """

    def __init__(self, domain: Domain, every: int) -> None:
        self._every = every
        self._times = {domain.silver.name: domain.event_time, **{gold.table.name: gold.starts for gold in domain.gold}}
        # Set apart, so that no micro-batch has to wait for two of them.
        self._merges = {name: number * every // len(self._times) for number, name in enumerate(self._times)}
        self._spans = dict.fromkeys(self._times, Spans(()))

    def after(self, spark: SparkSession, domain: Domain, touched: Spans) -> str:
        """Count one micro-batch, and compact a table if it is due.

        Args:
            spark: the session of the micro-batch.
            domain: as the micro-batch was applied with.
            touched: the spans of silver that it touched.

        Returns:
            The table that was compacted; empty for none.
        """
        if not self._every or not touched:
            return ""
        reached = {domain.silver.name: touched, **{gold.table.name: gold.reach(touched) for gold in domain.gold}}
        for name, span in reached.items():
            self._merges[name] += 1
            self._spans[name] = self._spans[name].joined(("", *times) for times in span.ranges)
        due = max(self._merges, key=lambda name: self._merges[name])
        if self._merges[due] < self._every:
            return ""
        _rewrite(spark, due, overlap(self._spans[due].ranges, self._times[due], self._times[due]))
        self._merges[due], self._spans[due] = 0, Spans(())
        return due


def _rewrite(spark: SparkSession, table: str, where: str) -> None:
    catalog, _, name = table.partition(".")
    options = ", ".join(f"{quote(key)}, {quote(value)}" for key, value in OPTIONS.items())
    try:
        spark.sql(
            f"CALL {catalog}.system.rewrite_data_files(table => {quote(name)}, strategy => 'binpack', where => {quote(where)}, "
            f"options => map({options}))"
        )
    except (PySparkException, Py4JError) as error:
        # Nothing is lost: the files stay as they are, and the next compaction takes them too.
        log.warning("not compacted", table=table, error=str(error).splitlines()[0][:300])
