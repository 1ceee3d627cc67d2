"""How does one machine get a Hadoop cluster? By four daemons from the jars of the `hadoop` class path, and Spark's history server.

    FOLDER/cluster.json   the ports, and the processes that were started
    FOLDER/conf/          the configuration, for the daemons and for WEIR_HADOOP_CONF_DIR
    FOLDER/data/          what the daemons keep, HDFS's blocks among it
    FOLDER/log/           one file per daemon

It is for development and for tests: one copy of each block, no security, everything on the loopback.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import requests

from deploy.local.agent.processes import ProcessKey, free_ports, stop_process
from deploy.local.errors import PartFailed
from deploy.local.jars import DEFAULT_FOLDER
from deploy.yarn.hadoop_files import CONTAINER_LOGS, EVENT_LOGS, HOST, Capacity, Ports, write_configuration
from deploy.yarn.hadoop_jars import hadoop_class_path
from deploy.yarn.hadoop_user import hadoop_user
from lakehouse.machine.environment import own_environment
from lakehouse.machine.java import find_java
from lakehouse.storage.files import replace_file
from lakehouse.storage.hdfs import client_of

# A driver with DuckDB's 1 GB takes 4 GiB, an executor 1.4.
CAPACITY = Capacity(memory=12_288, cores=16)
START_SECONDS = 120.0
STOP_SECONDS = 20.0
ASK_SECONDS = 2.0
_OPEN = ("java.base/java.lang", "java.base/java.util", "java.base/java.io", "java.base/java.nio")
# The serial collector: other collectors' threads would compete with the containers.
_JVM = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPEN))


@dataclass(frozen=True, slots=True)
class Daemon:
    """One process of the cluster: its name, its main class, its largest heap."""

    name: str
    main: str
    heap: str


NAMENODE = Daemon("namenode", "org.apache.hadoop.hdfs.server.namenode.NameNode", "384m")
DATANODE = Daemon("datanode", "org.apache.hadoop.hdfs.server.datanode.DataNode", "384m")
MANAGER = Daemon("resourcemanager", "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager", "512m")
NODE = Daemon("nodemanager", "org.apache.hadoop.yarn.server.nodemanager.NodeManager", "384m")
HISTORY = Daemon("historyserver", "org.apache.spark.deploy.history.HistoryServer", "512m")
DAEMONS = (NAMENODE, DATANODE, MANAGER, NODE, HISTORY)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a daemon: its process, if it was started, whether that runs, and whether it answers."""

    name: str
    process: ProcessKey | None
    runs: bool
    answers: bool
    page: str


class LocalCluster:
    """The cluster of a folder.

    Args:
        folder: where it keeps everything.
        environment: where JAVA_HOME and PATH are looked up.
        jars: folder with one folder per class path; None for the repository's.
        capacity: of all containers together.
        node_prefix: a command that starts the NodeManager, such as one that hides folders from it and from its containers.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        jars: Path | None = None,
        capacity: Capacity = CAPACITY,
        node_prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder.resolve()
        self.conf = self.folder / "conf"
        self._environment, self._jars = environment, (jars or DEFAULT_FOLDER).resolve()
        self._capacity, self._node_prefix = capacity, tuple(node_prefix)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._found_class_path = ""

    @property
    def ports(self) -> Ports | None:
        """The ports; None where it was never started."""
        found = self._state().get("ports")
        return None if found is None else Ports(**found)

    def start(self) -> Ports:
        """Start the daemons that do not run, and return when HDFS can be written and YARN has its node.

        Raises:
            JarsUnavailable, WrongJarHash, WrongJava: before anything is started.
            PartFailed: a daemon ended, or did not answer in time.
        """
        self._hadoop_class_path()
        names = [field.name for field in fields(Ports)]
        ports = self.ports or Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
        data = self.folder / "data"
        for folder in (data, self.folder / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        write_configuration(self.conf, data, ports, self._capacity)
        self._note(ports=asdict(ports))
        if not (data / "namenode").exists():
            self._format()
        for daemon in (NAMENODE, DATANODE, MANAGER, NODE):
            self.start_daemon(daemon)
        self._wait(ports)
        client, _ = client_of(ports.hdfs, str(self.conf))
        for path in (CONTAINER_LOGS, EVENT_LOGS):
            client.mkdirs(path, create_parent=True)
            client.set_permission(path, 0o1777)  # each user writes there, and removes only what is theirs
        self.start_daemon(HISTORY)
        return ports

    def stop(self) -> None:
        """Stop all daemons, the last one first, and what still runs in containers; wait until all are gone."""
        for daemon in reversed(DAEMONS):
            self.stop_daemon(daemon)
        # Containers outlive their NodeManager, so that it can be restarted beside them; here none comes back.
        for process in self.container_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def container_processes(self) -> list[psutil.Process]:
        """Return the processes that run in containers: their folders are below the NodeManager's."""
        inside, found = str(self.folder / "data" / "node-local"), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(inside):
                    found.append(process)
        return found

    def start_daemon(self, daemon: Daemon) -> None:
        """Start one daemon unless it runs; returns before it answers."""
        if (known := self.process_of(daemon)) is not None and known.alive():
            return
        java = find_java(self._environment)
        prefix = self._node_prefix if daemon is NODE else ()
        command = [
            *prefix,
            str(java.launcher),
            f"-Xmx{daemon.heap}",
            *_JVM,
            *self._options(daemon),
            "-cp",
            self._class_path(daemon),
            daemon.main,
        ]
        with self.log_of(daemon).open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._daemon_environment(),
                start_new_session=True,
            )
        self._children[daemon.name] = process
        processes = self._state().get("processes", {})
        key = ProcessKey.of(process.pid)
        self._note(processes={**processes, daemon.name: [key.pid, key.created]})

    def stop_daemon(self, daemon: Daemon, seconds: float = STOP_SECONDS) -> None:
        """Stop one daemon; 0 seconds is SIGKILL at once."""
        if (known := self.process_of(daemon)) is not None:
            stop_process(known, seconds)
        if (child := self._children.pop(daemon.name, None)) is not None:
            child.wait()

    def process_of(self, daemon: Daemon) -> ProcessKey | None:
        """Return the process of a daemon that was started last."""
        found = self._state().get("processes", {}).get(daemon.name)
        return None if found is None else ProcessKey(int(found[0]), float(found[1]))

    def log_of(self, daemon: Daemon) -> Path:
        """Return the file with a daemon's output."""
        return self.folder / "log" / f"{daemon.name}.log"

    def administer_hdfs(self, *arguments: str) -> str:
        """Run Hadoop's `dfsadmin` with arguments such as `-safemode enter`, and return what it prints.

        Raises:
            PartFailed: it refused.
        """
        java = find_java(self._environment)
        command = [str(java.launcher), *_JVM, "-cp", self._class_path(NAMENODE), "org.apache.hadoop.hdfs.tools.DFSAdmin", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._daemon_environment(), timeout=60, check=False)
        if done.returncode != 0:
            raise PartFailed("dfsadmin", f"ended with {done.returncode}", done.stderr[-500:], self.log_of(NAMENODE))
        return done.stdout

    def seen(self) -> list[Seen]:
        """Look at all daemons."""
        ports = self.ports
        found = []
        for daemon in DAEMONS:
            process = self.process_of(daemon)
            page = "" if ports is None else f"http://{HOST}:{_page(daemon, ports)}"
            runs = process is not None and process.alive()
            found.append(Seen(daemon.name, process, runs, runs and _answers(f"{page}/"), page))
        return found

    def settings(self) -> dict[str, str]:
        """Return the environment variables that make weir use this cluster, with a hadoop catalog."""
        ports = self.ports
        assert ports is not None
        places = {"warehouse_uri": "warehouse", "checkpoints_uri": "checkpoints", "state_uri": "state", "catalog_uri": "warehouse"}
        named = {f"WEIR_{name.upper()}": f"{ports.hdfs}/weir/{place}" for name, place in places.items()}
        return {"WEIR_HADOOP_CONF_DIR": str(self.conf), "WEIR_SPARK_MASTER": "yarn", **named}

    def node_memory(self) -> int:
        """Return the memory of all containers together [MiB]."""
        return self._capacity.memory

    def _format(self) -> None:
        java = find_java(self._environment)
        command = [str(java.launcher), *_JVM, "-cp", self._class_path(NAMENODE), NAMENODE.main, "-format", "-nonInteractive"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, env=self._daemon_environment(), timeout=120, check=False)
        if done.returncode != 0:
            raise PartFailed("HDFS", "could not be formatted", done.stdout.decode(errors="replace")[-500:], self.log_of(NAMENODE))

    def _wait(self, ports: Ports) -> None:
        self._until(NAMENODE, lambda: _says(ports.namenode_http, "NameNodeInfo", "Safemode") == "")
        self._until(DATANODE, lambda: bool(_says(ports.namenode_http, "FSNamesystemState", "NumLiveDataNodes")))
        self._until(MANAGER, lambda: _answers(f"http://{HOST}:{ports.manager_http}/ws/v1/cluster/info"))
        self._until(NODE, lambda: active_nodes(ports) > 0)

    def _until(self, daemon: Daemon, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_there():
            process = self.process_of(daemon)
            if process is None or not process.alive():
                raise PartFailed(daemon.name, "ended while it started", _last_line(self.log_of(daemon)), self.log_of(daemon))
            if time.monotonic() >= deadline:
                raise PartFailed(
                    daemon.name, f"did not answer within {START_SECONDS:g} s", _last_line(self.log_of(daemon)), self.log_of(daemon)
                )
            time.sleep(0.2)

    def _options(self, daemon: Daemon) -> list[str]:
        ports = self.ports
        if daemon is not HISTORY or ports is None:
            return []
        said = {
            "spark.history.fs.logDirectory": f"{ports.hdfs}{EVENT_LOGS}",
            "spark.history.ui.port": ports.history,
            "spark.history.fs.update.interval": "2s",
            # A stream never ends: of its files, older ones are joined into one that tells of what still runs.
            "spark.history.fs.eventLog.rolling.maxFilesToRetain": 2,
            "spark.history.fs.cleaner.enabled": "true",
            "spark.history.fs.cleaner.maxAge": "7d",
            "spark.ui.bindAddress": HOST,
        }
        return [f"-D{name}={value}" for name, value in said.items()]

    def _class_path(self, daemon: Daemon) -> str:
        if daemon is HISTORY:
            import pyspark

            return os.pathsep.join([str(self.conf), str(Path(pyspark.__file__).resolve().parent / "jars" / "*")])
        return self._hadoop_class_path()

    def _hadoop_class_path(self) -> str:
        # Once: it checks the hash of every jar.
        if not self._found_class_path:
            self._found_class_path = hadoop_class_path(self.conf, self._environment, self._jars)
        return self._found_class_path

    def _daemon_environment(self) -> dict[str, str]:
        java = find_java(self._environment)
        # The NodeManager hands JAVA_HOME on to its containers.
        local = {"JAVA_HOME": str(java.home), "SPARK_LOCAL_IP": HOST, "HADOOP_USER_NAME": hadoop_user(self._environment)}
        return own_environment(self._environment, str(self.conf)) | local

    def _state(self) -> dict[str, Any]:
        file = self.folder / "cluster.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def _note(self, **more: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "cluster.json", json.dumps({**self._state(), **more}))


def active_nodes(ports: Ports) -> int:
    """Return how many nodes YARN has now; 0 where it does not answer."""
    try:
        answer = requests.get(f"http://{HOST}:{ports.manager_http}/ws/v1/cluster/metrics", timeout=ASK_SECONDS)
        return int(answer.json()["clusterMetrics"]["activeNodes"]) if answer.ok else 0
    except (requests.RequestException, ValueError, KeyError):
        return 0


def _says(port: int, bean: str, name: str) -> object:
    """Read a figure that the NameNode publishes; None where it does not answer."""
    try:
        answer = requests.get(f"http://{HOST}:{port}/jmx", params={"qry": f"Hadoop:service=NameNode,name={bean}"}, timeout=ASK_SECONDS)
        return answer.json()["beans"][0][name]
    except (requests.RequestException, ValueError, KeyError, IndexError):
        return None


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=ASK_SECONDS).status_code < 500
    except requests.RequestException:
        return False


def _page(daemon: Daemon, ports: Ports) -> int:
    return {
        NAMENODE.name: ports.namenode_http,
        DATANODE.name: ports.datanode_http,
        MANAGER.name: ports.manager_http,
        NODE.name: ports.node_http,
        HISTORY.name: ports.history,
    }[daemon.name]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return next((line for line in reversed(lines) if "ERROR" in line or "Exception" in line or "FATAL" in line), lines[-1] if lines else "")
