"""How does one machine get a Kafka? By one process that is both broker and controller (KRaft), run from the jars of the kafka class path.

It listens on the loopback only and keeps everything in one folder:

    FOLDER/cluster-id          weir's note of the cluster's id, written before the storage is formatted
    FOLDER/server.properties   written at every start
    FOLDER/data/               Kafka's storage; its meta.properties has the cluster and the node

The processes run in that folder and use relative paths, since not every folder's name can be written in the settings file: Kafka reads
`log.dirs` as a list separated by commas, and the file in Latin-1 with escapes.
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
# Kafka preallocates a segment's indexes at full size in each partition; with less space a new broker cannot start.
NEEDED_BYTES = 256 * 2**20
# A start took 3 s on an idle machine and 8 s beside two busy Spark drivers; with a slow disk it may take far longer.
START_SECONDS = 120.0
# A clean stop of a broker with the recorded year takes about one second; a stop that takes longer than this hangs.
STOP_SECONDS = 30.0
SETTINGS_FILE = "server.properties"
LOG_SETTINGS = Path(__file__).resolve().with_name("kafka-log4j2.properties")

EMBEDDED: dict[str, str] = {
    # One node cannot keep three replicas, which is the default of Kafka's internal topics.
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # The default of 50 partitions creates 50 folders of preallocated indexes for the few groups of one machine.
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A group of one member is complete at once; waiting for others would delay each start by 3 s.
    "group.initial.rebalance.delay.ms": "0",
    # A misspelt name would create a topic with one partition, and the stream would wait for the right topic for ever.
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # Messages are kept: with the default retention of seven days a topic could not be replayed, and a stopped stream would lose messages.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    # A year of a city is a few MB; the default segments of 1 GiB would only make recovery after a crash slower.
    "log.segment.bytes": str(128 * 2**20),
    # The longest values are descriptions from Kaggle, far below this limit; a longer one fails in its producer, which reports it.
    "message.max.bytes": str(4 * 2**20),
    "replica.fetch.max.bytes": str(4 * 2**20),
    # The cleaner allocates its buffer at start: 128 MiB by default, a quarter of this broker's heap, although its topics are small.
    "log.cleaner.dedupe.buffer.size": str(8 * 2**20),
    # Thread counts for two cores shared with Spark, not for a server.
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    # After a kill the controller still has the broker's old registration and accepts the broker again only when that times out, by default
    # after 9 s, which would delay a restart. On the loopback a heartbeat is never seconds late.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "1000",
    # The controller writes an empty record this often, and each goes through the whole metadata log: a quarter of the idle broker's time.
    "metadata.max.idle.interval.ms": "10000",
}


class EmbeddedKafka:
    """One broker on the loopback. `start` returns when it answers; `stop` leaves no process.

    Args:
        folder: where it keeps everything; created if missing.
        log: file to which its output is appended.
        port: port to listen on; None for a free one.
        controller_port: port of its controller; None for a free one.
        environment: where JAVA_HOME and PATH are looked up; also the environment of the process.
        jars: folder with the `kafka` class path; None for the repository's.
        heap: the JVM's maximum heap.
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
            seconds: maximum wait for an answer.
            launched: called with the process as soon as it exists.
            stopping: checked while waiting; true aborts the start.

        Raises:
            WrongJava, MissingJars, PortInUse, DiskFull, HalfFormattedKafka, ForeignKafkaFolder: before anything is started.
            PartFailed: the broker ended, or did not answer in time; the reason is from its log.
        """
        # Before Kafka listens on the chosen free port, another program may take it; then try other ports, at most three times in all.
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
        """Stop the broker with SIGTERM, and with SIGKILL if it has not ended in time. Safe to repeat."""
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
        # Its jars contain native libraries (zstd, snappy), which it unpacks into this folder to load them.
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
        """Write the settings, and format the storage if it is new; a crash leaves no half-formatted storage.

        StorageTool formats another folder, which is then renamed in one step.
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
                # StorageTool would read a leading hyphen as an option.
                cluster = cluster.replace("-", "A")
                note.write_text(cluster + "\n")
            self._write_settings(fresh.name)
            tool = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", SETTINGS_FILE]
            done = subprocess.run(
                tool, cwd=self.folder, capture_output=True, text=True, errors="replace", env=environment, timeout=60, check=False
            )
            if done.returncode != 0:
                output = done.stdout + done.stderr
                if "No space left on device" in output:
                    raise DiskFull(self.folder, shutil.disk_usage(self.folder).free, NEEDED_BYTES)
                raise PartFailed("Kafka", "could not format its storage", _reason(output), self.log)
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
                raise PartFailed("Kafka", "was stopped while it started", "a stop was requested", self.log)
            if answers(self.bootstrap):
                return
            time.sleep(0.1)
        raise self._failure(f"did not answer on {self.bootstrap} within {seconds:.0f} s", log_offset)

    def _failure(self, what: str, log_offset: int) -> Exception:
        with self.log.open("rb") as log:
            log.seek(log_offset)
            output = log.read().decode(errors="replace")
        if "No space left on device" in output:
            return DiskFull(self.folder, shutil.disk_usage(self.folder).free, NEEDED_BYTES)
        if "Address already in use" in output:
            port = self._controller_port if port_is_free(self.port) else self.port
            return PortInUse("Kafka", port, port_owner(port), "WEIR_KAFKA_PORT")
        return PartFailed("Kafka", what, _reason(output), self.log)


# The serial collector, since other collectors' threads would compete with Spark for two cores. A broker that runs out of memory ends, and
# the agent starts it again.
_JVM = ("-Xms128m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


def answers(bootstrap: str, seconds: float = 2.0) -> bool:
    """Return whether a broker answers a metadata request at one of the addresses, which it does later than its port opens.

    Raises:
        BadBootstrapError: the addresses cannot be parsed.
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
    """Check that a folder's meta.properties has this broker's cluster and node.

    Args:
        data: Kafka's storage folder, not empty.
        cluster: the cluster's id as noted before formatting; None where the note is missing.

    Raises:
        HalfFormattedKafka: meta.properties is missing or truncated.
        ForeignKafkaFolder: it has another cluster or node.
    """
    file = data / "meta.properties"
    if not file.exists():
        raise HalfFormattedKafka(data, "it has data, but no meta.properties")
    meta = dict(re.findall(r"^([\w.]+)=(\S+)$", file.read_text(errors="replace"), flags=re.MULTILINE))
    if lacking := [name for name in ("version", "cluster.id", "node.id", "directory.id") if name not in meta]:
        raise HalfFormattedKafka(data, f"its meta.properties lacks {', '.join(lacking)}")
    if meta["node.id"] != NODE_ID:
        raise ForeignKafkaFolder(data, "node.id", meta["node.id"], NODE_ID)
    if cluster is not None and meta["cluster.id"] != cluster:
        raise ForeignKafkaFolder(data, "cluster.id", meta["cluster.id"], cluster)


def check_room(folder: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Check that the disk of a folder, which need not exist yet, has enough free space.

    Raises:
        DiskFull: it has not.
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


def _reason(output: str) -> str:
    """Return the most useful line of a program's output: its last exception or error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.lstrip().startswith(("at ", "... "))]
    telling = [line for line in lines if re.search(r"Exception|Error\b|ERROR|FATAL|error:", line)]
    return ((telling or lines or ["it printed nothing"])[-1])[:300]
