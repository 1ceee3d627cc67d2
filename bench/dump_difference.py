"""K1: what does the difference of two dumps cost, and does the largest table fit into memory?

A generated table of users under the real headers of Meta Kaggle, 5 M rows, of which 1 % differ from the dump before: changed, added and
gone. Measured is `Publisher.publish` of the second dump with the rows of the first one kept: read, judge, compare, send to a real broker,
wait for the reports, keep; against DuckDB hashing all columns of the new CSV and of the kept Parquet, with the same memory and threads.
Both run in turn in one process; the first round warms up. Then the same for 25 M rows without a broker, in a process of its own, whose
greatest resident memory is read from the kernel.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from confluent_kafka import KafkaError, Message

from bench.measure import median, spread
from bench.report import goal, show
from deploy.local.services.kafka_broker import EmbeddedKafka
from lakehouse.broker.topics import ensure_topic
from lakehouse.contract import Contract
from lakehouse.engine.on_duckdb import open_duckdb
from lakehouse.judge_columns import rules_of
from lakehouse.settings import Settings
from producers.dumps.archive import Limits, open_files
from producers.dumps.csv_files import file_name, header_of, to_csv
from producers.dumps.finding import look
from producers.dumps.kept import KeptDumps
from producers.dumps.publishing import Publisher
from producers.dumps.report import DumpReport, TableReport
from producers.kafka_writer import KafkaClient, KafkaWriter, connect
from producers.sources.kaggle.forms import META_USERS
from producers.sources.kaggle.source import KAGGLE

ROWS, MANY_ROWS, QUICK_ROWS, MANY_QUICK_ROWS = 5_000_000, 25_000_000, 500_000, 1_000_000
CHANGED_PERCENT = 1
MEMORY = "1GB"
LIMIT_BYTES = 2 * 10**9
FIRST, SECOND = datetime(2025, 7, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC)


def dump_difference(quick: bool, repeats: int | None = None) -> None:
    """Measure 5 M rows against the hash, and 25 M rows alone."""
    rows, many = (QUICK_ROWS, MANY_QUICK_ROWS) if quick else (ROWS, MANY_ROWS)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name:
        folder = Path(name)
        rounds, delivered = _against_hash(folder, rows, repeats or 3)
        child = [sys.executable, "-m", "bench.dump_difference", str(folder / "many"), str(many)]
        said = subprocess.run(child, stdout=subprocess.PIPE, check=True).stdout
        alone = json.loads(said.splitlines()[-1])
    hashes, published = ([one[n] for one in rounds] for n in (0, 1))
    show(
        f"K1: {rows:,} users, {delivered:,} of them differ",
        ("", "seconds"),
        [("DuckDB hashes all columns of CSV and Parquet", spread(hashes, 2)), ("difference and publish", spread(published, 2))],
    )
    print(goal("K1 difference and publish / hash", median([b / a for a, b in rounds]), 3))
    show(
        f"K1: {many:,} users alone, without a broker",
        ("", "seconds", "peak resident MB"),
        [
            ("the first dump, sent whole", f"{alone['first_seconds']:.1f}", ""),
            ("the second dump, 1 % differs", f"{alone['seconds']:.1f}", f"{alone['peak_bytes'] / 1e6:.0f}"),
        ],
    )
    print(goal("K1 peak memory of both, GB", alone["peak_bytes"] / 1e9, LIMIT_BYTES / 1e9))


def write_users(path: Path, rows: int, is_second: bool) -> Path:
    """Write a dump's users. Of a hundred rows of the second dump one differs; of a hundred such one has gone and one is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = f"i % {100 // CHANGED_PERCENT} = 7"
    seed = f"i + CASE WHEN {changed} THEN 1 ELSE 0 END" if is_second else "i"
    gone = f"WHERE NOT ({changed} AND i % 10000 = 7)" if is_second else f"WHERE NOT ({changed} AND i % 10000 = 107)"
    with duckdb.connect() as database:
        database.execute("SET threads = 2; SET memory_limit = '1GB'; SET enable_progress_bar = false")
        database.execute(f"SET temp_directory = '{path.parent}'")
        database.execute(f"""
            COPY (
              SELECT i AS "Id", concat('name', i) AS "UserName",
                concat('Ann ', CASE WHEN hash({seed}) % 3 = 0 THEN '"B", ' END, hash({seed}) % 99999) AS "DisplayName",
                strftime(DATE '2010-01-01' + CAST(i // 7000 AS INTEGER), '%m/%d/%Y') AS "RegisterDate",
                CAST(hash(i * 7) % 5 AS INTEGER) AS "PerformanceTier",
                CASE WHEN hash(i * 3) % 20 = 0 THEN 'United States' END AS "Country", 'False' AS "LocationSharingOptOut"
              FROM range(1, {rows + 1}) AS t(i) {gone}
            ) TO '{path}' (HEADER true)
        """)
    return path


class Nowhere:
    """A Kafka client that takes every message at once and keeps none."""

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        headers: object = None,
    ) -> None:
        """Report the message as delivered."""
        assert on_delivery is not None
        on_delivery(None, None)  # type: ignore[arg-type]  # nothing reads it

    def poll(self, timeout: float) -> int:
        """Do nothing."""
        return 0

    def flush(self, timeout: float) -> int:
        """Do nothing."""
        return 0

    def purge(self) -> None:
        """Do nothing."""


def _publish(home: Path, dump: Path, made: datetime, client: KafkaClient, ids: Callable[[Contract], str]) -> TableReport:
    settings = Settings(home=home)
    kept = KeptDumps(home / "state", KAGGLE.name)
    report = DumpReport(KAGGLE.name, str(dump), made, "bench")
    with kept.held(), open_files(dump, [META_USERS.name], kept.scratch, Limits(64, 64, 200)) as found:
        Publisher(
            KAGGLE,
            kept,
            MEMORY,
            settings.reject_limit_percent,
            settings.dump_gone_limit_percent,
            rules_of=lambda contract: rules_of(settings, KAGGLE.domain, contract),
            topic_id=ids,
            writer=lambda contract: KafkaWriter(client, contract, KAGGLE.name, "bench"),
        ).publish(look(KAGGLE, found, is_partial=True), made, report)
    return report.tables["users"]


def _against_hash(folder: Path, rows: int, repeats: int) -> tuple[list[tuple[float, float]], int]:
    """Give the seconds of the hash and of the difference, round by round, and how many messages were delivered."""
    home, state = folder / "home", folder / "home" / "state"
    first = write_users(folder / "first" / META_USERS.name, rows, False)
    second = write_users(folder / "second" / META_USERS.name, rows, True)
    kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log", environment=dict(os.environ))
    kafka.start()
    try:
        ids = {one.topic: ensure_topic(kafka.bootstrap, one, 2) for one in (KAGGLE.notice, *(table.contract for table in KAGGLE.tables))}
        _publish(home, first.parent, FIRST, Nowhere(), lambda contract: ids[contract.topic])
        shutil.copytree(state, folder / "state of the first")
        client = connect(kafka.bootstrap, "bench")
        found = []
        delivered = 0
        for nth in range(repeats + 1):
            shutil.rmtree(state)
            shutil.copytree(folder / "state of the first", state)
            (kept,) = (state / f"{KAGGLE.name}.dumps").glob("users.*.parquet")
            hashed = _hash_all(second, kept)
            began = time.monotonic()
            report = _publish(home, second.parent, SECOND, client, lambda contract: ids[contract.topic])
            took = time.monotonic() - began
            delivered = report.delivered
            assert report.added == report.gone == rows // 10_000, (report.added, report.gone)
            # A few changed names are the old ones by chance.
            assert abs(delivered - rows * CHANGED_PERCENT // 100) <= rows // 100_000, delivered
            if nth:
                found.append((hashed, took))
        return found, delivered
    finally:
        kafka.stop()


def _hash_all(csv: Path, kept: Path) -> float:
    """Hash all columns of a CSV and of the kept rows with DuckDB; give the seconds."""
    header = header_of(csv, csv.name)
    relation = to_csv(csv, csv.name, META_USERS, header).relation
    with open_duckdb(MEMORY, csv.parent) as database:
        began = time.monotonic()
        for rows in (relation, f"SELECT * FROM read_parquet({file_name(kept)})"):
            names = ", ".join(f'"{row[0]}"' for row in database.execute(f"DESCRIBE {rows}").fetchall())
            database.execute(f"SELECT bit_xor(hash({names})) FROM ({rows})").fetchall()
        return time.monotonic() - began


def _alone(folder: Path, rows: int) -> None:
    """Publish two dumps without a broker; print the seconds of the second, and the greatest resident memory of both."""
    first, second = folder / "first" / META_USERS.name, folder / "second" / META_USERS.name
    for path, is_second in ((first, False), (second, True)):
        # In a process of its own: its memory is none of the publisher's.
        call = f"write_users(Path({str(path)!r}), {rows}, {is_second})"
        code = f"from pathlib import Path; from bench.dump_difference import write_users; {call}"
        subprocess.run([sys.executable, "-c", code], check=True)
    seconds = []
    for path, made in ((first, FIRST), (second, SECOND)):
        began = time.monotonic()
        _publish(folder / "home", path.parent, made, Nowhere(), lambda _: "topic")
        seconds.append(time.monotonic() - began)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"first_seconds": seconds[0], "seconds": seconds[1], "peak_bytes": peak}))


if __name__ == "__main__":
    _alone(Path(sys.argv[1]), int(sys.argv[2]))
