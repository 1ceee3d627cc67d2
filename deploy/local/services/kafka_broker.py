"""How does one machine get a Kafka? One process, broker and controller in one (KRaft), from the jars of the kafka class path.

It listens on the loopback only and keeps everything in one folder:

    FOLDER/cluster-id          our note of the cluster, written before the storage is formatted
    FOLDER/server.properties   written anew at every start
    FOLDER/data/               Kafka's own storage; meta.properties in it says which cluster and node it is

Its processes run in that folder and use relative paths: Kafka reads `log.dirs` as a list with commas, and its settings
file in Latin-1 with escapes, so not every folder's name could be written there.
"""

import base64
import contextlib
import errno
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local.agent.processes import ProcessKey, free_ports, port_is_free, port_owner, stop_process
from deploy.local.errors import DiskFull, ForeignKafkaFolder, HalfFormattedKafka, PartFailed, PortInUse
from deploy.local.jars import jars_for
from lakehouse.broker.bootstrap import bootstrap_text, parse_bootstrap, usable
from lakehouse.machine.environment import java_scratch, own_environment
from lakehouse.machine.java import find_java

NODE_ID = "1"
# A segment's indexes are reserved at their full size in each partition; below this a new broker cannot begin.
NEEDED_BYTES = 256 * 2**20
# A start took 3 s on a free machine, 8 s beside two busy Spark drivers; a slow disk may need far more.
START_SECONDS = 120.0
# A clean stop of a broker with the recorded year takes about one second; one that takes longer than this hangs.
STOP_SECONDS = 30.0
SETTINGS_FILE = "server.properties"
LOG_SETTINGS = Path(__file__).resolve().with_name("kafka-log4j2.properties")

EMBEDDED: dict[str, str] = {
    # One node cannot keep three copies, and each of Kafka's own topics asks for three unless told otherwise.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # The default of 50 partitions makes 50 folders of reserved indexes for the few groups of one machine.
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A group of one member is complete when it arrives: waiting 3 s for others delays each start by as much.
    "group.initial.rebalance.delay.ms": "0",
    # A topic made by a misspelt name would have one partition, and the stream would wait on the right one for ever.
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # Rows are kept: a topic that forgets after seven days cannot be replayed, and a stopped stream would lose what it had not read.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    # A year of a city is a few MB: segments of 1 GiB would only make the check after a crash longer.
    "log.segment.bytes": str(128 * 2**20),
    # A description from Kaggle is the longest value we carry, far below this; one that is longer fails in its producer and is named there.
    "message.max.bytes": str(4 * 2**20),
    "replica.fetch.max.bytes": str(4 * 2**20),
    # The cleaner reserves its buffer at once: 128 MiB by default, a quarter of this broker's heap, for topics that are small.
    "log.cleaner.dedupe.buffer.size": str(8 * 2**20),
    # Threads for two cores that Spark wants too, rather than for a server.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    # After a kill the controller still holds the broker's old registration, and lets it in again when that one has timed out:
    # 9 s by default, which a restart would wait for. On the loopback a heartbeat is not late by seconds.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class EmbeddedKafka:
    """One broker on the loopback. `start` returns when it answers; `stop` leaves no process.

    Args:
        folder: where it keeps everything; made if missing.
        log: file that its output is appended to.
        port: port to listen on; null picks a free one.
        controller_port: port of its controller; null picks a free one.
        environment: where JAVA_HOME and PATH are looked up; also the environment of the process.
        jars: folder that holds the `kafka` class path; null is the repository's.
        heap: the JVM's largest heap.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        environment: Mapping[str, str],
        jars: Path | None = None,
        heap: str = "512m",
    ) -> None:
        self.folder, self.log, self.heap = folder, log, heap
        self.wanted_port, self.wanted_controller_port = port, controller_port
        self.environment, self.jars = environment, jars
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.key: ProcessKey | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients, host:port."""
        return f"127.0.0.1:{self.port}"

    def start(
        self,
        seconds: float = START_SECONDS,
        launched: Callable[[ProcessKey], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Format the storage if it is new, start the broker and wait until it answers.

        Args:
            seconds: longest wait for an answer.
            launched: told of the process as soon as there is one.
            stopping: asked while waiting; true gives up.

        Raises:
            WrongJava, MissingJars, PortInUse, DiskFull, HalfFormattedKafka, ForeignKafkaFolder: before anything is started.
            PartFailed: it ended, or did not answer in time; the reason is from its log.
        """
        # Between picking a free port and Kafka's listening on it, another program may take it: then with others, three times at most.
        for attempt in (1, 2, 3):
            try:
                self._start_once(seconds, launched, stopping)
                return
            except PortInUse:
                if attempt == 3 or (self.wanted_port and self.wanted_controller_port):
                    raise
                if self.wanted_port and not port_is_free(self.wanted_port):
                    raise

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the broker: SIGTERM, and SIGKILL when it has not ended in time. Safe to repeat."""
        if self.key is not None:
            stop_process(self.key, seconds)
        if self.process is not None:
            self.process.wait()
        self.process = self.key = None

    def _start_once(self, seconds: float, launched: Callable[[ProcessKey], None], stopping: Callable[[], bool]) -> None:
        java = find_java(self.environment)
        class_path = os.pathsep.join(str(jar) for jar in jars_for("kafka", self.jars))
        self._pick_ports()
        check_room(self.folder)
        environment = {**own_environment(self.environment), "JAVA_HOME": str(java.home)}
        # Its jars bring native libraries (zstd, snappy), which it unpacks to load them.
        scratch = f"-Djava.io.tmpdir={java_scratch(self.folder.parent)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._format([str(java.launcher), "-Xmx128m", scratch, "-cp", class_path], environment)
            written = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as output:
                options = [f"-Xmx{self.heap}", *_JVM, scratch, f"-Dlog4j2.configurationFile={LOG_SETTINGS.as_uri()}"]
                self.process = subprocess.Popen(
                    [str(java.launcher), *options, "-cp", class_path, "kafka.Kafka", SETTINGS_FILE],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise _as_disk_full(error, self.folder) from error
        self.key = ProcessKey.of(self.process.pid)
        launched(self.key)
        try:
            self._wait_until_it_answers(seconds, written, stopping)
        except BaseException:
            self.stop(seconds=1)
            raise

    def _pick_ports(self) -> None:
        for port in (self.wanted_port, self.wanted_controller_port):
            if port and not port_is_free(port):
                raise PortInUse("Kafka", port, port_owner(port), "WEIR_KAFKA_PORT")
        free = free_ports(2)
        self.port = self.wanted_port or free[0]
        self._controller_port = self.wanted_controller_port or free[1]

    def _format(self, java: list[str], environment: Mapping[str, str]) -> None:
        """Write the settings, and format the storage unless that was done; a crash in between leaves no half of it.

        StorageTool formats a folder beside, which then takes its name in one step.
        """
        data, fresh = self.folder / "data", self.folder / "data.new"
        note = self.folder / "cluster-id"
        if data.exists() and any(data.iterdir()):
            check_storage(data, note.read_text().strip() if note.exists() else None)
        else:
            shutil.rmtree(fresh, ignore_errors=True)
            cluster = note.read_text().strip() if note.exists() else ""
            if not cluster:
                cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
                # A leading hyphen would be taken for an option of StorageTool.
                cluster = cluster.replace("-", "A")
                note.write_text(cluster + "\n")
            self._write_settings(fresh.name)
            tool = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", SETTINGS_FILE]
            done = subprocess.run(
                tool, cwd=self.folder, capture_output=True, text=True, errors="replace", env=environment, timeout=60, check=False
            )
            if done.returncode != 0:
                said = done.stdout + done.stderr
                if "No space left on device" in said:
                    raise DiskFull(self.folder, shutil.disk_usage(self.folder).free, NEEDED_BYTES)
                raise PartFailed("Kafka", "could not format its storage", _reason(said), self.log)
            if data.exists():
                data.rmdir()
            fresh.rename(data)
        self._write_settings(data.name)

    def _write_settings(self, data: str) -> None:
        addresses = {
            "process.roles": "broker,controller",
            "node.id": NODE_ID,
            "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": data,
        }
        lines = [f"{name}={value}\n" for name, value in {**addresses, **EMBEDDED}.items()]
        (self.folder / SETTINGS_FILE).write_text("".join(lines))

    def _wait_until_it_answers(self, seconds: float, log_offset: int, stopping: Callable[[], bool]) -> None:
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self._failure(f"ended with exit code {self.process.returncode} while it started", log_offset)
            if stopping():
                raise PartFailed("Kafka", "was stopped while it started", "the stop was asked for", self.log)
            if answers(self.bootstrap):
                return
            time.sleep(0.1)
        raise self._failure(f"did not answer on {self.bootstrap} within {seconds:.0f} s", log_offset)

    def _failure(self, what: str, log_offset: int) -> Exception:
        with self.log.open("rb") as log:
            log.seek(log_offset)
            said = log.read().decode(errors="replace")
        if "No space left on device" in said:
            return DiskFull(self.folder, shutil.disk_usage(self.folder).free, NEEDED_BYTES)
        if "Address already in use" in said:
            port = self._controller_port if port_is_free(self.port) else self.port
            return PortInUse("Kafka", port, port_owner(port), "WEIR_KAFKA_PORT")
        return PartFailed("Kafka", what, _reason(said), self.log)


# The serial collector keeps a small heap's threads off the two cores that Spark wants; a broker without memory left ends, and is
# started again.
_JVM = ("-Xms128m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


def answers(bootstrap: str, seconds: float = 2.0) -> bool:
    """Ask for a broker's metadata: true once one of the addresses takes requests, which is later than its port being open.

    Raises:
        BadBootstrapError: the addresses cannot be read.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # Try a bare connection first: the client library writes to stderr where no broker listens.
    addresses = usable(parse_bootstrap(bootstrap), seconds)
    if not addresses:
        return False
    admin = AdminClient({"bootstrap.servers": bootstrap_text(addresses), "log_level": 0})
    with contextlib.suppress(KafkaException):
        return bool(admin.list_topics(timeout=seconds).brokers)
    return False


def check_storage(data: Path, cluster: str | None) -> None:
    """Compare a folder's meta.properties with what this broker is.

    Args:
        data: Kafka's storage folder, not empty.
        cluster: the cluster's id as noted when it was formatted; null where the note is missing.

    Raises:
        HalfFormattedKafka: meta.properties is missing or cut.
        ForeignKafkaFolder: it names another cluster or node.
    """
    file = data / "meta.properties"
    if not file.exists():
        raise HalfFormattedKafka(data, "it holds data and no meta.properties")
    meta = dict(re.findall(r"^([\w.]+)=(\S+)$", file.read_text(errors="replace"), flags=re.MULTILINE))
    if lacking := [name for name in ("version", "cluster.id", "node.id", "directory.id") if name not in meta]:
        raise HalfFormattedKafka(data, f"its meta.properties lacks {', '.join(lacking)}")
    if meta["node.id"] != NODE_ID:
        raise ForeignKafkaFolder(data, "node.id", meta["node.id"], NODE_ID)
    if cluster is not None and meta["cluster.id"] != cluster:
        raise ForeignKafkaFolder(data, "cluster.id", meta["cluster.id"], cluster)


def check_room(folder: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Make sure that the disk of a folder, which need not exist yet, has room.

    Raises:
        DiskFull: with what is free and what is needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise DiskFull(folder, free, needed_bytes)


def _as_disk_full(error: OSError, folder: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        return DiskFull(folder, shutil.disk_usage(existing).free, NEEDED_BYTES)
    return error


def _reason(said: str) -> str:
    """Pick the one line of a program's output that tells most: its last exception or error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.lstrip().startswith(("at ", "... "))]
    telling = [line for line in lines if re.search(r"Exception|Error\b|ERROR|FATAL|error:", line)]
    return ((telling or lines or ["it said nothing"])[-1])[:300]
