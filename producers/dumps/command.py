"""What does `weir produce SOURCE --dump` do, from the path to the report?"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import typer

from producers.dumps.archive import Limits, open_files
from producers.dumps.description import DumpSource
from producers.dumps.errors import UnusableDumpError
from producers.dumps.finding import Look, look, wanted_files
from producers.dumps.kept import KeptDumps
from producers.dumps.publishing import Publisher
from producers.dumps.report import DumpReport

if TYPE_CHECKING:
    from lakehouse.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """What was typed.

    Attributes:
        path: of the dump; None to download it.
        is_partial: whether tables may be missing.
        made: when the dump was made, UTC; None where its files tell.
        as_json: whether the report is printed as JSON.
    """

    path: Path | None
    is_partial: bool
    made: datetime | None
    as_json: bool


def instant_of(text: str) -> datetime | None:
    """Read --run-date: a UTC day, which stands for its first moment, or an instant; None where it is empty."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"--run-date {text!r} is no day (YYYY-MM-DD) and no instant (YYYY-MM-DDTHH:MM:SSZ)") from None
    return _whole_millis(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))


def publish_dump(source: DumpSource, options: DumpOptions, settings: "Settings", run_id: str, check_stop: Callable[[], None]) -> DumpReport:
    """Publish a dump, and print and store the report, also after an error.

    Raises:
        ProducerError: the dump cannot be read, or a part of it was not published.
    """
    from lakehouse.broker.topics import ensure_topic
    from lakehouse.judge_columns import rules_of
    from producers.kafka_writer import KafkaWriter, connect

    kept = KeptDumps(settings.home / "state", source.name)
    bootstrap, partitions = settings.kafka_bootstrap, settings.kafka_partitions
    # Before anything is read or downloaded: without Kafka that would be for nothing.
    ids = {one.topic: ensure_topic(bootstrap, one, partitions) for one in (source.notice, *(table.contract for table in source.tables))}
    client = connect(bootstrap, run_id)
    with kept.held(), _opened(source, options, settings, kept.scratch) as (looks, name, made):
        publisher = Publisher(
            source,
            kept,
            settings.duckdb_memory,
            settings.reject_limit_percent,
            settings.dump_gone_limit_percent,
            rules_of=lambda contract: rules_of(settings, source.domain, contract),
            topic_id=lambda contract: ids[contract.topic],
            writer=lambda contract: KafkaWriter(client, contract, source.name, run_id),
            check_stop=check_stop,
        )
        report = DumpReport(source.name, name, made, run_id)
        try:
            publisher.publish(looks, made, report)
        finally:
            path = report.write(settings.home / "reports" / source.name)
            print(json.dumps(report.as_dict(), ensure_ascii=False) if options.as_json else f"{report.as_text()}\n  report: {path}")
    return report


@contextmanager
def _opened(
    source: DumpSource, options: DumpOptions, settings: "Settings", scratch: Path
) -> Iterator[tuple[dict[str, Look], str, datetime]]:
    """Open a dump: what it has, its name for people, and when it was made."""
    wanted = wanted_files(source)
    if options.path is None:
        assert source.download is not None
        with (
            source.download(settings, scratch, wanted) as fetched,
            _looked(source, options, settings, fetched.folder, scratch) as (looks, _),
        ):
            yield looks, f"downloaded from {source.name}", options.made or _whole_millis(fetched.made)
    else:
        with _looked(source, options, settings, options.path, scratch) as (looks, made):
            yield looks, str(options.path), options.made or made


@contextmanager
def _looked(
    source: DumpSource, options: DumpOptions, settings: "Settings", path: Path, scratch: Path
) -> Iterator[tuple[dict[str, Look], datetime]]:
    limits = Limits(settings.dump_member_gib, settings.dump_total_gib, settings.dump_ratio)
    with open_files(path, wanted_files(source), scratch, limits) as found:
        try:
            looks = look(source, found, options.is_partial)
        except UnusableDumpError as error:
            raise UnusableDumpError(f"{path}: {error}") from error
        yield looks, _whole_millis(max(file.made for file in found))


def _whole_millis(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
