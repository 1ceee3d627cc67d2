"""How old is a reading when somebody else can see it in gold?

100 readings a second, each a new or a changed hour of one of 100 places, go through the production driver. An independent
process polls the catalog every 100 ms with PyIceberg and notes when it finds a reading, or a newer retrieval of its hour, in
`lh.gold.fact_air_quality_hourly`: the time from produce to the end of that read. The warm-up is left out.
"""

import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from deploy.local.kafka_broker import EmbeddedKafka
from lakehouse.catalog import open_catalog
from lakehouse.contract import Value, to_millis
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import Settings

PLACES, PER_SECOND = 100, 100
SEED = 20240101
FIRST_HOUR = datetime(2024, 1, 1, tzinfo=UTC)
POLL_SECONDS = 0.1
DRAIN_SECONDS = 60
TABLE = "gold.fact_air_quality_hourly"

Key = tuple[str, int]  # place, hour in ms
Sent = list[tuple[str, int, int]]  # place, hour, retrieved_ts, both in ms


def freshness(quick: bool) -> None:
    """Measure and print p50, p99 and max."""
    warm_up, measured = (20, 30) if quick else (60, 120)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        home = Path(folder)
        _write_places(home)
        broker = EmbeddedKafka(home / "kafka", home / "kafka.log", environment=dict(os.environ))
        broker.start()
        environment = os.environ | {"WEIR_HOME": str(home), "WEIR_KAFKA_BOOTSTRAP": broker.bootstrap}
        with (home / "stream.log").open("w") as log:
            command = [sys.executable, "-m", "weir", "stream", "air_quality"]
            driver = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_ready(home, driver)
            latencies = _measure(Settings(home=home, kafka_bootstrap=broker.bootstrap), warm_up, measured)
        finally:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            broker.stop()
    _print(latencies, measured)


def _measure(settings: Settings, warm_up: float, measured: float) -> list[float]:
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    found: Any = context.Queue()
    reader = context.Process(target=_find, args=(str(settings.home), done, found))
    reader.start()
    sent, counted_from = _produce(settings.kafka_bootstrap, warm_up, measured)
    time.sleep(DRAIN_SECONDS)
    done.set()
    seen: dict[Key, list[tuple[int, float]]] = found.get(timeout=60)
    reader.join(60)
    latencies = []
    for place, hour, retrieved in sent:
        if retrieved < counted_from:
            continue
        when = [at for newest, at in seen.get((place, hour), []) if newest >= retrieved]
        if not when:
            raise SystemExit(f"the reading of {place} at {hour} was not in gold {DRAIN_SECONDS} s after the last one was sent")
        latencies.append(min(when) - retrieved / 1000)
    return latencies


def _produce(bootstrap: str, warm_up: float, measured: float) -> tuple[Sent, int]:
    """Send readings at an even pace; what was sent, and from which retrieved_ts on it counts."""
    chance = random.Random(SEED)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "partitioner": "murmur2_random"})
    next_hour = [0] * PLACES
    sent: Sent = []
    start = time.time()
    for n in range(int((warm_up + measured) * PER_SECOND)):
        time.sleep(max(0.0, start + n / PER_SECOND - time.time()))
        place = n % PLACES
        changed = next_hour[place] > 0 and chance.random() < 0.5
        hour = next_hour[place] - chance.randint(1, min(48, next_hour[place])) if changed else next_hour[place]
        next_hour[place] += not changed
        now = datetime.now(UTC)
        record: dict[str, Value] = {
            "location_key": f"p{place:03d}",
            "ts_utc": FIRST_HOUR + timedelta(hours=hour),
            **{name: round(chance.uniform(5, 90), 1) for name in ("pm25", "pm10", "o3", "no2", "so2", "co")},
            "retrieved_ts": now.replace(microsecond=now.microsecond // 1000 * 1000),
        }
        producer.produce(HOURLY.topic, HOURLY.encode(record), key=HOURLY.encode_key(record))
        producer.poll(0)
        sent.append((f"p{place:03d}", to_millis(FIRST_HOUR) + hour * 3_600_000, to_millis(now)))
    producer.flush(30)
    return sent, int((start + warm_up) * 1000)


def _find(home: str, done: Event, found: Any) -> None:  # noqa: ANN401 - a multiprocessing queue has no public type
    """Poll the catalog until told that it is done; note when each newer retrieval of an hour was first found."""
    table = open_catalog(Settings(home=Path(home))).load_table(TABLE)
    seen: dict[Key, list[tuple[int, float]]] = {}
    last = None
    while not done.is_set():
        began = time.time()
        table.refresh()
        snapshot = table.current_snapshot()
        if snapshot is not None and snapshot.snapshot_id != last:
            last = snapshot.snapshot_id
            rows = table.scan(selected_fields=("location_key", "ts_utc", "retrieved_ts")).to_arrow()
            at = time.time()
            columns = [pc.divide(rows[name].cast("int64"), 1000).to_pylist() for name in ("ts_utc", "retrieved_ts")]
            for place, hour, newest in zip(rows["location_key"].to_pylist(), *columns, strict=True):
                times = seen.setdefault((place, hour), [])
                if not times or times[-1][0] < newest:
                    times.append((newest, at))
        time.sleep(max(0.0, POLL_SECONDS - (time.time() - began)))
    found.put(seen)


def _write_places(home: Path) -> None:
    line = '{{"location_key":"p{n:03d}","location_name":"place {n}","latitude":21.0,"longitude":105.8,"timezone":"Asia/Ho_Chi_Minh"}}'
    (home / "locations.jsonl").write_text("\n".join(line.format(n=n) for n in range(PLACES)))


def _wait_until_ready(home: Path, driver: "subprocess.Popen[bytes]") -> None:
    ready = home / "run" / "stream-air_quality.ready.json"
    limit = time.monotonic() + 300
    while not ready.exists():
        if driver.poll() is not None or time.monotonic() > limit:
            raise SystemExit(f"the driver did not start:\n{(home / 'stream.log').read_text()[-2000:]}")
        time.sleep(0.2)


def _print(latencies: list[float], seconds: float) -> None:
    cuts = statistics.quantiles(latencies, n=100)
    table = Table(title=f"freshness: produce -> found in lh.{TABLE}, {PER_SECOND} readings/s for {seconds:g} s")
    for name in ("readings", "p50 s", "p90 s", "p99 s", "max s"):
        table.add_column(name, justify="right")
    table.add_row(str(len(latencies)), f"{cuts[49]:.2f}", f"{cuts[89]:.2f}", f"{cuts[98]:.2f}", f"{max(latencies):.2f}")
    Console().print(table)
