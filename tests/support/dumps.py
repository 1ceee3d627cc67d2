"""Builders for the tests of dumps: files, a Kafka without Kafka, and a dump published from a folder."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message

from lakehouse.contract import Contract
from lakehouse.judge_columns import Rule
from lakehouse.rules import contract_rules
from producers.dumps.archive import Limits, open_files
from producers.dumps.description import DumpSource
from producers.dumps.errors import DumpFailedError
from producers.dumps.finding import look, wanted_files
from producers.dumps.kept import KeptDumps
from producers.dumps.publishing import Publisher
from producers.dumps.report import DumpReport
from producers.kafka_writer import KafkaWriter
from producers.sources.kaggle.source import KAGGLE

LIMITS = Limits(member_gib=1, total_gib=1, ratio=200)
Row = Mapping[str, Any]
Report = Callable[[KafkaError | None, Message], None]


@dataclass(slots=True)
class Topics:
    """What the writers need of a Kafka client; keeps every message by topic. Messages after `fail_from` are reported as failed."""

    sent: dict[str, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    fail_from: int | None = None
    count: int = 0
    _waiting: list[tuple[bool, Report]] = field(default_factory=list)

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        on_delivery: Report | None = None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        assert on_delivery is not None
        self.count += 1
        failed = self.fail_from is not None and self.count > self.fail_from
        if not failed:
            self.sent.setdefault(topic, []).append((key, value))
        self._waiting.append((failed, on_delivery))

    def poll(self, timeout: float) -> int:
        given, self._waiting = self._waiting, []
        for failed, report in given:
            report(KafkaError(KafkaError._MSG_TIMED_OUT) if failed else None, None)  # type: ignore[arg-type]  # nothing reads it
        return len(given)

    def flush(self, timeout: float) -> int:
        self.poll(0)
        return 0

    def purge(self) -> None:
        self._waiting = []

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """Read the messages of a topic that are JSON."""
        found = []
        for _, value in self.sent.get(topic, []):
            with suppress(ValueError):
                found.append(json.loads(value or b""))
        return found

    def drain(self, topic: str) -> list[dict[str, Any]]:
        """Read the messages of a topic, and forget them."""
        found = self.rows(topic)
        self.sent.pop(topic, None)
        return found


@dataclass(slots=True)
class Home:
    """A home whose dumps are published without Kafka."""

    folder: Path
    topics: Topics = field(default_factory=Topics)
    source: DumpSource = KAGGLE
    limit_percent: float = 10
    gone_percent: float = 50
    topic_id: str = "o/n+e"
    rules_of: Callable[[Contract], Sequence[Rule]] = contract_rules
    memory: str = "500MB"
    check_stop: Callable[[], None] = lambda: None

    @property
    def kept(self) -> KeptDumps:
        return KeptDumps(self.folder / "state", self.source.name)

    def publish(self, dump: Path, made: datetime, is_partial: bool = False) -> DumpReport:
        """Publish a dump; raises what the command raises."""
        report = DumpReport(self.source.name, str(dump), made, "run")
        self._publish(dump, made, is_partial, report)
        return report

    def report(self, dump: Path, made: datetime, is_partial: bool = False) -> tuple[DumpReport, str]:
        """Publish a dump of which tables may fail; give the report and the error."""
        report = DumpReport(self.source.name, str(dump), made, "run")
        try:
            self._publish(dump, made, is_partial, report)
        except DumpFailedError as error:
            return report, str(error)
        return report, ""

    def _publish(self, dump: Path, made: datetime, is_partial: bool, report: DumpReport) -> None:
        kept = self.kept
        with kept.held(), open_files(dump, wanted_files(self.source), kept.scratch, LIMITS) as found:
            Publisher(
                self.source,
                kept,
                self.memory,
                self.limit_percent,
                self.gone_percent,
                self.rules_of,
                topic_id=lambda _: self.topic_id,
                writer=lambda contract: KafkaWriter(self.topics, contract, self.source.name, "run", delivery_seconds=5),
                check_stop=self.check_stop,
            ).publish(look(self.source, found, is_partial), made, report)


def day(number: int, hour: int = 12) -> datetime:
    """Give a moment of a day of August 2025."""
    return datetime(2025, 8, number, hour, tzinfo=UTC)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], at: datetime | None = None) -> Path:
    """Write a file as Kaggle writes it: quoted where needed, nothing for null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    if at is not None:
        os.utime(path, (at.timestamp(), at.timestamp()))
    return path
