"""Does each thing that can be wrong with a machine come as a sentence that says what and what to do?"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.agent.processes import ProcessKey
from deploy.local.agent.run_files import PartState, run_folder, running_kafka, seen, write_state
from deploy.local.errors import DiskFull, ForeignKafkaFolder, HalfFormattedKafka, PortInUse, StaleProcessId
from deploy.local.services import kafka_broker
from deploy.local.services.kafka_broker import EmbeddedKafka, check_room
from deploy.local.stack import check_kafka_folder, preflight
from deploy.local.status import collect
from lakehouse.settings import Settings

META = "node.id=1\ndirectory.id=jD0qYJzymPr2Pphiu8Gn_w\nversion=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\n"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.mark.parametrize("what", ["Kafka", "The metrics page"])
def test_port_in_use_names_its_owner_and_the_setting(tmp_path: Path, taken_port: int, what: str) -> None:
    kafka_port, metrics_port = (taken_port, None) if what == "Kafka" else (None, taken_port)
    with pytest.raises(PortInUse) as caught:
        preflight(Settings(home=tmp_path, kafka_port=kafka_port, metrics_port=metrics_port), ("kafka", "metrics"))
    setting = "WEIR_KAFKA_PORT" if what == "Kafka" else "WEIR_METRICS_PORT"
    assert str(caught.value).startswith(f"{what} cannot listen on 127.0.0.1:{taken_port}: the port is in use by ")
    assert f"(process {os.getpid()})" in str(caught.value)
    assert str(caught.value).endswith(f"Stop that process, set {setting} to another port, or unset {setting} to use a free port.")


def test_broker_itself_refuses_a_taken_port_before_it_writes(tmp_path: Path, taken_port: int) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log", port=taken_port, environment=dict(os.environ))
    with pytest.raises(PortInUse, match=f"127.0.0.1:{taken_port}: the port is in use by"):
        broker.start()
    assert not (tmp_path / "kafka").exists()


@pytest.mark.parametrize(
    ("meta", "found"),
    [(None, "it has data, but no meta.properties"), ("version=1\nnode.id=1\nclus", "its meta.properties lacks cluster.id, directory.id")],
    ids=["missing", "cut"],
)
def test_half_formatted_kafka_folder_is_refused(tmp_path: Path, meta: str | None, found: str) -> None:
    data = tmp_path / "kafka" / "data"
    (data / "__cluster_metadata-0").mkdir(parents=True)
    if meta is not None:
        (data / "meta.properties").write_text(meta)
    with pytest.raises(HalfFormattedKafka) as caught:
        check_kafka_folder(tmp_path / "kafka")
    assert str(caught.value) == (
        f"Kafka's folder {data} is half-formatted: {found}. Move it away (mv {tmp_path}/kafka {tmp_path}/kafka.broken) and run `weir up` "
        "again to start with an empty Kafka; rows in bronze are kept."
    )


@pytest.mark.parametrize(
    ("noted", "meta", "sentence"),
    [
        ("AAAAAAAAAAAAAAAAAAAAAA", META, "cluster.id '4L6g3nShT-eMCtK--X86sw', expected 'AAAAAAAAAAAAAAAAAAAAAA'"),
        ("4L6g3nShT-eMCtK--X86sw", META.replace("node.id=1", "node.id=7"), "node.id '7', expected '1'"),
    ],
    ids=["cluster", "node"],
)
def test_folder_of_another_cluster_is_refused(tmp_path: Path, noted: str, meta: str, sentence: str) -> None:
    data = tmp_path / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text(meta)
    (tmp_path / "kafka" / "cluster-id").write_text(noted)
    with pytest.raises(ForeignKafkaFolder) as caught:
        check_kafka_folder(tmp_path / "kafka")
    assert f"belongs to another broker: its meta.properties has {sentence}. Restore the right folder, or move this one away" in str(
        caught.value
    )


def test_full_disk_is_said_with_what_is_free_and_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull) as caught:
        check_room(tmp_path / "home" / "kafka")
    assert str(caught.value) == (
        f"The disk of {tmp_path}/home/kafka is full: 3 MiB are free, 256 MiB are needed. "
        "Free some space, or set WEIR_HOME to a folder on another disk."
    )


def test_disk_that_fills_up_while_kafka_is_formatted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real full file system where this user may mount one, else with the writes refused as the kernel would."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False).returncode == 0
    monkeypatch.setattr(kafka_broker, "NEEDED_BYTES", 0)
    monkeypatch.setattr(kafka_broker, "check_room", lambda folder: None)
    try:
        if mounted:
            (small / "filler").write_bytes(b"0" * 56 * 1024)
        else:
            monkeypatch.setattr(Path, "write_text", _no_space)
        broker = EmbeddedKafka(small / "kafka", tmp_path / "kafka.log", environment=dict(os.environ))
        with pytest.raises(DiskFull, match=f"The disk of {small}/kafka is full: .* Free some space, or set WEIR_HOME"):
            broker.start()
    finally:
        if mounted:
            subprocess.run(["umount", small], check=True)


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_stale_process_id_is_seen_by_the_time_of_creation(settings: Settings) -> None:
    run = run_folder(settings)
    run.mkdir(parents=True)
    me = ProcessKey.of(os.getpid())
    # The id is taken: by this test, which is not the broker that the file means.
    write_state(run, PartState("kafka", "up", me.pid, me.created - 3600, address="127.0.0.1:9092"))
    assert seen(run, "kafka").condition == "stale"
    assert running_kafka(settings) is None
    part = collect(settings)["parts"][0]
    assert (part["state"], part["pid"]) == ("stale", None)
    assert part["says"] == (
        f"kafka is not running: {run}/kafka.json names process {me.pid}, which has ended unexpectedly or is another program now. "
        "`weir up` starts kafka again; `weir down` removes the state file."
    )
    assert str(StaleProcessId("kafka", me.pid, run / "kafka.json")) == part["says"]


def test_cut_state_file_counts_as_none(settings: Settings) -> None:
    run = run_folder(settings)
    run.mkdir(parents=True)
    (run / "kafka.json").write_text('{"part": "kaf')
    assert seen(run, "kafka").condition == "down"
