"""Which settings does a Hadoop cluster on one machine have? The files of its configuration folder, for its daemons and for its clients.

All daemons listen on the loopback. One DataNode holds one copy of each block, and one NodeManager runs all containers. Source of the names:
Hadoop 3.4's hdfs-default.xml, yarn-default.xml and the guide of the CapacityScheduler.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HOST = "127.0.0.1"
# Where aggregated logs of containers are, on HDFS.
CONTAINER_LOGS = "/weir/container-logs"
# Where applications of Spark note what they did, for the history server, on HDFS.
EVENT_LOGS = "/weir/spark-events"
# A daemon finds its web pages on the class path; without such a file it does not start. weir uses their JSON alone.
_WEB_PAGES = ("hdfs", "datanode", "cluster", "node")
_LOG4J = """\
log4j.rootLogger = INFO, console
log4j.appender.console = org.apache.log4j.ConsoleAppender
log4j.appender.console.layout = org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern = %d{ISO8601} %p %c{2}: %m%n
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the daemons on the loopback. They stay the same as long as the cluster's folder is there, since paths hold HDFS's."""

    namenode: int
    namenode_http: int
    datanode: int
    datanode_http: int
    datanode_ipc: int
    manager: int
    manager_scheduler: int
    manager_tracker: int
    manager_admin: int
    manager_http: int
    node: int
    node_localizer: int
    node_http: int
    history: int

    @property
    def hdfs(self) -> str:
        """URI of HDFS, without a slash at its end."""
        return f"hdfs://{HOST}:{self.namenode}"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all containers together may use: memory [MiB] and virtual cores."""

    memory: int
    cores: int


def write_configuration(folder: Path, data: Path, ports: Ports, capacity: Capacity) -> None:
    """Write a configuration folder.

    Args:
        folder: the configuration folder; made.
        data: the folder in which the daemons keep their data.
        ports: of the daemons.
        capacity: of the NodeManager.
    """
    for name in _WEB_PAGES:
        page = folder / "webapps" / name / "WEB-INF"
        page.mkdir(parents=True, exist_ok=True)
        (page / "web.xml").write_text("<web-app/>\n")
    (folder / "log4j.properties").write_text(_LOG4J)
    _write(folder / "core-site.xml", {"fs.defaultFS": ports.hdfs, "hadoop.tmp.dir": str(data / "tmp")})
    _write(folder / "hdfs-site.xml", _hdfs(data, ports))
    _write(folder / "yarn-site.xml", _yarn(data, ports, capacity))
    _write(folder / "capacity-scheduler.xml", _queues())


def _hdfs(data: Path, ports: Ports) -> dict[str, object]:
    return {
        "dfs.namenode.rpc-address": f"{HOST}:{ports.namenode}",
        "dfs.namenode.http-address": f"{HOST}:{ports.namenode_http}",
        "dfs.namenode.name.dir": f"file://{data / 'namenode'}",
        "dfs.datanode.data.dir": f"file://{data / 'datanode'}",
        "dfs.datanode.address": f"{HOST}:{ports.datanode}",
        "dfs.datanode.http.address": f"{HOST}:{ports.datanode_http}",
        "dfs.datanode.ipc.address": f"{HOST}:{ports.datanode_ipc}",
        "dfs.replication": 1,
        # There is no other DataNode to go on with when this one is restarted in the middle of a block.
        "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        # Blocks are there as soon as the one DataNode has reported, so nothing is gained by waiting 30 s more.
        "dfs.namenode.safemode.extension": 0,
        "dfs.namenode.heartbeat.recheck-interval": 5_000,
        "dfs.heartbeat.interval": 1,
        # As in lakehouse/spark.py, for other clients.
        "dfs.client.block.write.locateFollowingBlock.initial.delay.ms": 2,
        "dfs.client.block.write.locateFollowingBlock.retries": 13,
    }


def _yarn(data: Path, ports: Ports, capacity: Capacity) -> dict[str, object]:
    return {
        "yarn.resourcemanager.hostname": HOST,
        "yarn.resourcemanager.address": f"{HOST}:{ports.manager}",
        "yarn.resourcemanager.scheduler.address": f"{HOST}:{ports.manager_scheduler}",
        "yarn.resourcemanager.resource-tracker.address": f"{HOST}:{ports.manager_tracker}",
        "yarn.resourcemanager.admin.address": f"{HOST}:{ports.manager_admin}",
        "yarn.resourcemanager.webapp.address": f"{HOST}:{ports.manager_http}",
        "yarn.resourcemanager.scheduler.class": "org.apache.hadoop.yarn.server.resourcemanager.scheduler.capacity.CapacityScheduler",
        # An application survives a ResourceManager that is restarted.
        "yarn.resourcemanager.recovery.enabled": "true",
        "yarn.resourcemanager.store.class": "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore",
        "yarn.resourcemanager.fs.state-store.uri": f"file://{data / 'manager'}",
        "yarn.resourcemanager.am.max-attempts": 10,
        # A NodeManager that is killed is noticed within this time; its containers go on and are found again by the next one.
        "yarn.nm.liveness-monitor.expiry-interval-ms": 20_000,
        "yarn.am.liveness-monitor.expiry-interval-ms": 60_000,
        "yarn.nodemanager.recovery.enabled": "true",
        "yarn.nodemanager.recovery.supervised": "true",
        "yarn.nodemanager.recovery.dir": str(data / "node-recovery"),
        "yarn.nodemanager.address": f"{HOST}:{ports.node}",
        "yarn.nodemanager.localizer.address": f"{HOST}:{ports.node_localizer}",
        "yarn.nodemanager.webapp.address": f"{HOST}:{ports.node_http}",
        "yarn.nodemanager.local-dirs": str(data / "node-local"),
        "yarn.nodemanager.log-dirs": str(data / "node-logs"),
        "yarn.nodemanager.resource.memory-mb": capacity.memory,
        "yarn.nodemanager.resource.cpu-vcores": capacity.cores,
        # Memory that a container really uses is checked; addresses that it only reserves are not.
        "yarn.nodemanager.pmem-check-enabled": "true",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 98,
        "yarn.scheduler.minimum-allocation-mb": 256,
        "yarn.scheduler.maximum-allocation-mb": capacity.memory,
        "yarn.log-aggregation-enable": "true",
        "yarn.log-aggregation.retain-seconds": 7 * 86_400,
        "yarn.nodemanager.remote-app-log-dir": CONTAINER_LOGS,
        # Logs of a stream that never ends are copied meanwhile, not only at its end.
        "yarn.nodemanager.log-aggregation.roll-monitoring-interval-seconds": 3_600,
    }


def _queues() -> dict[str, object]:
    queue = "yarn.scheduler.capacity.root"
    return {
        f"{queue}.queues": "default",
        f"{queue}.default.capacity": 100,
        f"{queue}.default.maximum-capacity": 100,
        f"{queue}.default.state": "RUNNING",
        # Each driver is an application master, and on one machine they are most of the load.
        "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
        "yarn.scheduler.capacity.resource-calculator": "org.apache.hadoop.yarn.util.resource.DefaultResourceCalculator",
        "yarn.scheduler.capacity.maximum-applications": 100,
    }


def _write(file: Path, values: Mapping[str, object]) -> None:
    rows = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(str(value))}</value></property>\n" for name, value in values.items()
    )
    file.write_text(f'<?xml version="1.0"?>\n<configuration>\n{rows}</configuration>\n')
