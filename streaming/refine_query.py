"""How does the refine query run? It reads the bronze tables as streams, under the table lock of its domain and behind the breaker.

What a micro-batch does is in `refine.py`.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.codecs.unknown_fields import UnknownFields, unknown_fields_file
from lakehouse.domain import Domain
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.engine import MOST_ROWS
from lakehouse.locks.table_locks import table_lock
from lakehouse.settings import Settings
from lakehouse.storage.folders import Folder, HadoopFolder
from lakehouse.write.appended_rows import read_appended
from lakehouse.write.fenced_append import newest_mark
from lakehouse.write.hand_over import HandOver
from streaming import refine
from streaming.batch_report import BatchReport, ReadFrom
from streaming.breaker import Breaker, Limit
from streaming.checkpoints import examine, planned_positions
from streaming.held_back import HeldBack
from streaming.query import begin_new_checkpoint_for_other_inputs, in_pool, move_aside, take_checkpoint
from streaming.supervisor import Supervised
from streaming.wake import Waker, can_wake


class RefineQuery:
    """The refine query of one domain, which writes silver and the derived tables; see `DomainQuery`.

    Args:
        spark: the session.
        domain: whose tables, as they are at the start.
        build: puts the domain together again for each micro-batch.
        settings: all of them.
        state: where the breaker keeps what it counted.
        report: gets a report of each micro-batch.
        check_lease: raises where another driver has taken over the tables.
        hand_over: has what the bronze query of this driver appended; None where there is none.
    """

    def __init__(
        self,
        spark: SparkSession,
        domain: Domain,
        build: Callable[[], Domain],
        settings: Settings,
        state: Folder,
        report: Callable[[BatchReport], None],
        check_lease: Callable[[], None],
        hand_over: HandOver | None = None,
    ) -> None:
        self._hand_over = hand_over
        self._engine = memory_engine(settings)
        self._most_rows = MOST_ROWS if self._engine is None else self._engine.most_rows
        self._spark, self._domain, self._build, self._settings = spark, domain, build, settings
        self._report, self._check_lease = report, check_lease
        self._held_back: HeldBack | None = None
        is_alone = len(domain.sources) == 1
        self._unknown = {
            one.name: UnknownFields(state, unknown_fields_file(domain.name, "" if is_alone else one.name), one.contract)
            for one in domain.sources
        }
        limit = Limit(settings.reject_limit_percent, settings.reject_window_rows, settings.reject_least_rows)
        self._breakers = {}
        for one in domain.sources:
            file, shown = (domain.name, domain.name) if is_alone else (f"{domain.name}.{one.name}", f"{domain.name}, {one.name}")
            self._breakers[one.name] = Breaker(state, f"{file}.breaker.json", domain.name, limit, shown)

    @property
    def name(self) -> str:
        """See `DomainQuery`."""
        return self._domain.refine_query

    def start(self, me: Supervised) -> StreamingQuery:
        """Start where the checkpoint stands.

        Raises:
            BadCheckpoint: it is another query's, or not whole.
        """
        tables, checkpoint = [one.bronze.name for one in self._domain.sources], self._checkpoint()
        me.note = begin_new_checkpoint_for_other_inputs(checkpoint, self.name, tables)
        examine(checkpoint, self.name, self._domain.name, is_kafka=False, inputs=len(tables))
        take_checkpoint(checkpoint, self.name, {}, tables)
        held_back = self._held_back = HeldBack(checkpoint, [one.name for one in self._domain.sources])
        held_back.release()
        me.refused = held_back.refused
        waker = Waker(self._spark, self._settings.silver_trigger_seconds) if can_wake(self._spark) else None
        if waker is not None:
            waker.is_told = True  # by the bronze query of its own driver; other programs seldom append
            if self._hand_over is not None:
                self._hand_over.after_put = waker.wake
        body = refine.refine_body(
            self._build,
            self._report if waker is None else waker.noting(self._report),
            lambda source, batch_id, met: self._breakers[source.name].judge(batch_id, met),
            self._settings.compact_after,
            lambda source, met: self._unknown[source.name].note(met.unknown, met.offsets),
            lambda: table_lock(self._settings, self._domain.name),
            self._engine,
            self._at_hand,
            lambda: None if waker is None else waker.wake(),
            held_back.hold,
            held_back.refused,
        )
        rows = refine.read_bronze(self._spark, self._domain, self._settings)
        return in_pool(
            self._spark, self.name, lambda: refine.start_refine(rows, self._domain, self._settings, me.guard(body), me.is_draining, waker)
        )

    def before_batch(self) -> None:
        """Raise where another driver writes the tables."""
        self._check_lease()

    def explain(self) -> None:
        """Do nothing: bronze loses no rows that this query has not read."""

    def move_checkpoint_aside(self) -> None:
        """Read bronze from its beginning at the next start, which changes nothing."""
        move_aside(self._checkpoint(), self.name)

    def accept_rows(self) -> None:
        """Let the rows of held sources that are in bronze now pass the breaker, whatever share of them is rejected."""
        names = [source.name for source in self._domain.sources]
        # A home that an earlier version stopped names none; then it may be any.
        held = HeldBack(self._checkpoint(), names).noted() or names
        for source in self._domain.sources:
            if source.name in held:
                self._breakers[source.name].accept(newest_mark(self._spark, source.bronze))

    def _at_hand(self, batch_id: int) -> refine.AtHand | None:
        """Return the rows of a micro-batch; None where Spark must read the tables."""
        sources = self._domain.sources
        positions = planned_positions(self._checkpoint(), batch_id, len(sources))
        if positions is None:
            return None
        found: dict[str, pa.Table] = {}
        read_from: ReadFrom = "memory"
        for source, (start, end) in zip(sources, positions, strict=True):
            if self._held_back is not None and source.name in self._held_back.refused:
                continue
            rows = None if self._hand_over is None else self._hand_over.take(source.bronze.name, start, end)
            if rows is None:
                rows, read_from = (
                    _of_kafka(
                        read_appended(self._spark, source.bronze, start, end, MOST_ROWS if self._engine is None else self._engine.most_rows)
                    ),
                    "files",
                )
            if rows is None:
                return None
            if rows.num_rows:
                found[source.bronze.name] = rows
        return refine.AtHand(found, read_from)

    def _checkpoint(self) -> HadoopFolder:
        return HadoopFolder(self._spark, self._settings.checkpoint(self.name))


def _of_kafka(rows: pa.Table | None) -> pa.Table | None:
    """Leave out backfilled rows, as `read_bronze` does."""
    if rows is None or rows["source_run"].null_count == rows.num_rows:  # nearly always: a backlog is not copied for nothing
        return rows
    return rows.filter(pc.is_null(rows["source_run"]))
