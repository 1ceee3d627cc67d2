"""How does a dump get into its topics so that a kill at any moment repeats rows and loses none?

Table by table: read it, judge it, compare it with the last delivered dump, send what differs, wait for the delivery reports, send the
notice that follows the rows, wait again, and only then keep the table's rows as the last delivered ones. A table that cannot be read, or
with more bad rows than the breaker lets through, or without many of the rows that it had, is left as it was, and the others go on.

A dump that is older than the last delivered one does not replace it. It is published whole, with its own time. Where the last delivered
dump says something else of a row, that is said again with that dump's time: such a row may have been left out as unchanged since a dump
before both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import structlog

from lakehouse import failpoints
from lakehouse.contract import Contract, Value
from lakehouse.engine.on_duckdb import open_duckdb
from lakehouse.judge_columns import Rule, unjudged
from producers.dumps.description import Dump, DumpSource, DumpTable, Figures
from producers.dumps.difference import NO_DIFFERENCE, Difference
from producers.dumps.errors import DumpFailedError, NoRoomError, TableError, TooManyBadRowsError, TooManyGoneError
from producers.dumps.finding import Lacking, Look, Readable
from producers.dumps.kept import KeptDumps, parquet
from producers.dumps.report import DumpReport, TableReport
from producers.dumps.staging import Stage, Staged
from producers.kafka_writer import DESCRIBED, KafkaWriter

# No broken line is lost among the rejects: this rule is what bronze says of bytes that are no JSON object.
_UNPARSABLE = "unparsable"
_TICK = timedelta(milliseconds=1)
# Of fewer rows than these, any share may go.
LEAST_ROWS = 100

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes the tables of a dump.

    Attributes:
        source: of the dump.
        kept: the last delivered dumps; held by the caller.
        memory: of DuckDB, such as `1GB`.
        limit_percent: the breaker's limit.
        gone_percent: the share of a table's rows above which they are not believed to have gone.
        rules_of: returns the rules that judge the rows of a contract.
        topic_id: returns the broker's id of a contract's topic, which it creates when needed.
        writer: opens a writer for a contract.
        check_stop: raises an error when the program was told to stop; called between two tables and two batches.
    """

    source: DumpSource
    kept: KeptDumps
    memory: str
    limit_percent: float
    gone_percent: float
    rules_of: Callable[[Contract], Sequence[Rule]]
    topic_id: Callable[[Contract], str]
    writer: Callable[[Contract], KafkaWriter]
    check_stop: Callable[[], None] = lambda: None

    def publish(self, looks: Mapping[str, Look], made: datetime, report: DumpReport) -> None:
        """Publish every table that the dump has, and fill in the report.

        Raises:
            DumpFailedError: tables were not published; after the others were.
            DeliveryError: Kafka did not report all messages as delivered; the next run sends them again.
        """
        errors: dict[str, TableError] = {}
        with open_duckdb(self.memory, self.kept.scratch) as database:
            for table in self.source.tables:
                self.check_stop()
                one = looks.get(table.name)
                if one is None:
                    continue  # the dump is of a form that has no such table
                if isinstance(one, Readable):
                    try:
                        self._publish(database, table, one, made, report)
                    except TableError as found:
                        errors[table.name] = found
                        report.tables[table.name].why = str(found)
                    except duckdb.OutOfMemoryException as found:
                        raise NoRoomError(
                            f"{table.name}: {self.memory} of memory and the disk of {self.kept.scratch} do not suffice. "
                            "Raise WEIR_DUCKDB_MEMORY, or free some space, and run the same command again."
                        ) from found
                    except duckdb.IOException as found:
                        raise NoRoomError(
                            f"{table.name}: {str(found).splitlines()[0]}. Check the space and this user's permissions below "
                            f"{self.kept.scratch.parent}, and run the same command again."
                        ) from found
                elif isinstance(one, Lacking):
                    report.tables[table.name] = TableReport("missing", why=f"the dump has no {', '.join(one.files)}")
                else:
                    report.tables[table.name] = TableReport("failed", why=str(one))
                    errors[table.name] = one
        for name, error in errors.items():
            log.error("table not published", source=self.source.name, table=name, reason=str(error))
        if errors:
            reasons = "".join(f"\n  {name}: {error}" for name, error in errors.items())
            raise DumpFailedError(f"{len(errors)} of {len(looks)} table(s) of {self.source.name} were not published:{reasons}")

    def _publish(
        self, database: duckdb.DuckDBPyConnection, table: DumpTable, readable: Readable, made: datetime, report: DumpReport
    ) -> None:
        files = tuple(csv.name for csv in readable.files.values())
        unknown = {csv.name: csv.unknown for csv in readable.files.values() if csv.unknown}
        said = report.tables[table.name] = TableReport("failed", readable.form.name, files, unknown_columns=unknown)
        for file, columns in unknown.items():
            log.warning("unknown columns, kept", source=self.source.name, table=table.name, file=file, columns=list(columns))
        topic_id = self.topic_id(table.contract)
        kept = self.kept.find(database, table.name, topic_id)
        rules = self.rules_of(table.contract)
        is_late = kept is not None and made < kept.made
        # Of two rows of one version either may win: another dump of the same moment, or a moment noted before, is stamped later.
        stamped = made if kept is None or is_late else max(made, kept.stamped + _TICK)
        stage = Stage(database, self.source, table, rules, made, stamped)
        before = stage.hashes(kept) if kept else None
        dump = Dump(stamped, files, readable.form.name)
        same = self.source.stamp(dump)
        staged = stage.read(readable.form.rows(readable.files, before), same, self.kept.scratch / f"{table.name}.parquet")
        self._report(said, staged)
        self._judge(said, staged, rules)

        after = f"SELECT * FROM {parquet(staged.path)}"
        self.check_stop()
        if kept and is_late:
            said.late = True
            assert before is not None
            all_of_it = Difference(database, table, stage.values, stage.is_keyed, None, after)
            again = Difference(database, table, stage.values, stage.is_keyed, after, before)
            again.compare()
            of_kept = self.source.stamp(Dump(kept.stamped, files, readable.form.name))
            self._send(said, table, [(all_of_it, same), (again, of_kept)], staged)
            self._notice(table, dump, Figures(staged.rows, None, None, None))
            return
        difference = Difference(database, table, stage.values, stage.is_keyed, before, after)
        compared = difference.compare()
        is_same = kept is not None and made == kept.made and compared == NO_DIFFERENCE
        if kept and is_same:
            dump = Dump(kept.stamped, files, readable.form.name)
        said.added, said.changed, said.gone = compared.added, compared.changed, compared.gone
        if compared.gone:
            self._judge_gone(said, compared.gone, difference.count_before())
        self._send(said, table, [(difference, same)], staged)
        self._notice(table, dump, Figures(staged.rows, compared.added, compared.changed, compared.gone))
        failpoints.reach("dump.noticed")
        if not is_same:
            self.kept.replace(table.name, topic_id, staged.path)
        failpoints.reach("dump.kept")

    def _report(self, said: TableReport, staged: Staged) -> None:
        broken = len(staged.broken)
        reasons = {**staged.rules, **({_UNPARSABLE: staged.rules.get(_UNPARSABLE, 0) + broken} if broken else {})}
        said.input = staged.read + broken
        said.reasons, said.rejects = reasons, sum(reasons.values())
        said.warnings = staged.warnings
        said.repeated = staged.read - staged.rows
        said.without_key, said.broken_lines = staged.without_key, broken
        if staged.repeated:
            log.warning("rows with the same identity", source=self.source.name, files=list(said.files), rows=staged.repeated)
        if staged.without_key:
            log.warning(
                "rows without a key, sent for the rejects", source=self.source.name, files=list(said.files), rows=staged.without_key
            )
        for line in staged.broken[:DESCRIBED]:
            log.warning("broken line, sent for the rejects", source=self.source.name, file=line.file, line=line.line, reason=line.why)

    def _judge(self, said: TableReport, staged: Staged, rules: Sequence[Rule]) -> None:
        but = unjudged(rules)
        bad = sum(count for rule, count in said.reasons.items() if rule not in but)
        if bad * 100 > self.limit_percent * said.input:
            said.state = "stopped"
            first = ", ".join(f"{rule} {count}" for rule, count in list(said.reasons.items())[:3])
            raise TooManyBadRowsError(
                f"{bad} of {said.input} rows break a rule ({first}), more than {self.limit_percent:g} %, so nothing of the table was "
                "published. Look at the file; if its rows are right as they are, raise WEIR_REJECT_LIMIT_PERCENT for this run (100: never)."
            )

    def _judge_gone(self, said: TableReport, gone: int, before: int) -> None:
        if before >= LEAST_ROWS and gone * 100 > self.gone_percent * before:
            said.state = "stopped"
            raise TooManyGoneError(
                f"{gone} of the {before} rows of the last delivered dump are not in this one, more than {self.gone_percent:g} %, so "
                "nothing of the table was published. Look whether the file is whole; if these rows have really gone, raise "
                "WEIR_DUMP_GONE_LIMIT_PERCENT for this run (100: never)."
            )

    def _send(
        self, said: TableReport, table: DumpTable, differences: Sequence[tuple[Difference, Mapping[str, Value]]], staged: Staged
    ) -> None:
        with self.writer(table.contract) as writer:
            for difference, same in differences:
                for batch in difference.messages(same):
                    self.check_stop()
                    for key, value in batch:
                        writer.send_bytes(key, value)
                    failpoints.reach("producer.sent")
            for line in staged.broken:
                writer.send_bytes(None, line.text.encode())
            writer.flush()
            said.delivered = writer.counts.delivered
        failpoints.reach("producer.reported")
        said.state = "published"

    def _notice(self, table: DumpTable, dump: Dump, figures: Figures) -> None:
        with self.writer(self.source.notice) as writer:
            writer.send(self.source.to_notice(table.name, dump, figures))
            writer.flush()
            writer.raise_invalid()
