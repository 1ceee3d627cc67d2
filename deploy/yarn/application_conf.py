"""What is an application of weir on YARN configured with? Spark's configuration of both deploy modes, and a container's settings.

A container's memory is the heap, DuckDB's limit and what else the process takes, and YARN ends one that takes more.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from deploy.yarn.environment_archive import ENTRY
from deploy.yarn.hadoop_files import EVENT_LOGS, HOST
from deploy.yarn.manager import TAG, domain_tag, site_values
from lakehouse.settings import Settings
from lakehouse.spark import CONTAINER_LOG4J, CONTAINER_LOG_OPTION, DRIVER_OPTIONS, dynamic_allocation, read_spark_conf
from lakehouse.storage.hdfs import SCHEME

# The folder in a container into which YARN unpacks the archive of Python.
UNPACKED = "weir-python"
LOG_SETTINGS = Path(__file__).with_name(CONTAINER_LOG4J)
# Beside heap and DuckDB: Python, Arrow's buffers, the JVM's own memory and compiled code [MiB].
OVERHEAD = 1_024
EXECUTOR_OVERHEAD = 384
# Executors that may be lost within an hour before an attempt counts as failed.
LOST_EXECUTORS = 20
# Files that grow no more: YARN copies them to HDFS while the application runs, and removes them from the node. The newest of each kind is
# read on the node, and copied at the end.
ROLLED_LOGS = r"(weir|spark)\.log\.\d+"
# Settings that name this machine: a container has its own.
_OF_THIS_MACHINE = frozenset(
    {
        *("home", "jars_path", "hadoop_conf_dir", "metrics_port", "kafka_port", "cds_archive", "budget_path"),
        *("spark_conf_file", "kerberos_principal", "kerberos_keytab", "objectives_path", "metrics_textfile"),
        *("prometheus_port", "alertmanager_port", "alertmanager_config"),
    }
)
_LOCAL = ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME")


@dataclass(frozen=True, slots=True)
class Resources:
    """What an application asks of YARN.

    Attributes:
        queue: its queue.
        driver_cores: virtual cores of the driver's container.
        executor_memory: heap of an executor, as Spark takes it.
        executor_cores: of an executor.
        attempts: how often YARN starts the driver in an hour.
    """

    queue: str = "default"
    driver_cores: int = 2
    executor_memory: str = "1g"
    executor_cores: int = 1
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Archives:
    """URIs of what a node gets: the archive of Python with weir's code, and that of the jars."""

    python: str
    jars: str


def application_conf(
    settings: Settings, resources: Resources, archives: Archives, domains: Sequence[str] = (), *, has_history: bool = False
) -> dict[str, str]:
    """Return Spark's configuration of an application in either deploy mode.

    Args:
        settings: all of them.
        resources: what it asks of YARN.
        archives: what its nodes get.
        domains: that it streams; none for a batch verb.
        has_history: whether HDFS has the folder that a history server reads.

    Raises:
        BadSparkConf: the file of further settings cannot be read.
    """
    conf = read_spark_conf(settings) | {
        "spark.yarn.queue": resources.queue,
        "spark.yarn.tags": ",".join([TAG, *map(domain_tag, domains)]),
        "spark.yarn.archive": archives.jars,
        "spark.yarn.dist.archives": f"{archives.python}#{UNPACKED}",
        "spark.yarn.dist.files": LOG_SETTINGS.as_uri(),
        # The one interpreter of all; a node's own has no say.
        "spark.executorEnv.PYSPARK_PYTHON": f"./{UNPACKED}/{ENTRY}",
        "spark.executor.memory": resources.executor_memory,
        "spark.executor.memoryOverhead": str(EXECUTOR_OVERHEAD),
        "spark.executor.cores": str(resources.executor_cores),
        "spark.executor.maxNumFailures": str(LOST_EXECUTORS),
        "spark.executor.failuresValidityInterval": "1h",
        "spark.yarn.rolledLog.includePattern": ROLLED_LOGS,
        "spark.ui.showConsoleProgress": "false",
    }
    conf |= dynamic_allocation(settings) or {"spark.executor.instances": "1"}
    if settings.kerberos_principal:
        conf |= {"spark.kerberos.principal": settings.kerberos_principal, "spark.kerberos.keytab": settings.kerberos_keytab}
    if has_history:
        conf |= {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"{SCHEME}://{EVENT_LOGS}",
            "spark.eventLog.rolling.enabled": "true",
            "spark.eventLog.rolling.maxFileSize": "16m",
        }
    if settings.yarn_java_home:
        conf["spark.executorEnv.JAVA_HOME"] = settings.yarn_java_home
    if is_loopback(settings):
        # The host's own name may lead elsewhere, or nowhere.
        conf |= {f"spark.executorEnv.{name}": HOST for name in _LOCAL}
    return conf


def cluster_mode_conf(settings: Settings, resources: Resources) -> dict[str, str]:
    """Return what the driver's container is configured with."""
    options = [*DRIVER_OPTIONS, CONTAINER_LOG_OPTION, *settings.spark_java_options.split()]
    entry = f"./{UNPACKED}/{ENTRY}"
    conf = {
        "spark.pyspark.python": entry,
        "spark.pyspark.driver.python": entry,
        "spark.yarn.appMasterEnv.WEIR_HOME": ".",
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": entry,
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.driver.memoryOverhead": str(_mebibytes(settings.duckdb_memory) + OVERHEAD),
        "spark.driver.cores": str(resources.driver_cores),
        "spark.driver.extraJavaOptions": " ".join(options),
        # A driver that fails is started again, on another node if there is one, and earlier failures are forgotten after an hour.
        "spark.yarn.maxAppAttempts": str(resources.attempts),
        "spark.yarn.am.attemptFailuresValidityInterval": "1h",
        # A batch verb may ask its source, or wait for a lease, before it opens Spark.
        "spark.yarn.am.waitTime": "10m",
        # A stream's end is asked for; YARN must not wait for a client that is gone.
        "spark.yarn.submit.waitAppCompletion": "false",
    }
    if settings.yarn_java_home:
        conf["spark.yarn.appMasterEnv.JAVA_HOME"] = settings.yarn_java_home
    if is_loopback(settings):
        conf |= {f"spark.yarn.appMasterEnv.{name}": HOST for name in _LOCAL}
    return conf


def client_mode_conf(settings: Settings) -> dict[str, str]:
    """Return what a driver on this machine needs, so that executors find it."""
    return {"spark.driver.host": HOST, "spark.driver.bindAddress": HOST} if is_loopback(settings) else {}


def settings_for_container(settings: Settings) -> str:
    """Return the settings as the text of a `weir.toml`, those of this machine left out, secrets in plain text."""
    lines = []
    for name, value in settings.model_dump(exclude_none=True).items():
        if name in _OF_THIS_MACHINE or (value == Settings.model_fields[name].default and name != "spark_master"):
            continue
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        # A string, a number or a truth is written in TOML as in JSON.
        lines.append(f"{name} = {json.dumps('yarn' if name == 'spark_master' else plain, default=str)}\n")
    return "".join(lines)


def as_properties(conf: dict[str, str]) -> str:
    """Return a configuration as the text of a file that `spark-submit --properties-file` reads."""
    return "".join(f"{key}={value}\n" for key, value in sorted(conf.items())).replace("\\", "\\\\")


def is_loopback(settings: Settings) -> bool:
    """Return whether the cluster is one of this machine, which listens on the loopback."""
    file = Path(settings.hadoop_conf_dir or "/nonexistent") / "yarn-site.xml"
    return file.exists() and site_values(file).get("yarn.resourcemanager.hostname") in (HOST, "localhost")


def driver_mebibytes(settings: Settings) -> int:
    """Return the size of the driver's container [MiB]."""
    number, unit = int(settings.spark_driver_memory[:-1]), settings.spark_driver_memory[-1]
    return number * (1_024 if unit == "g" else 1) + _mebibytes(settings.duckdb_memory) + OVERHEAD


def _mebibytes(size: str) -> int:
    # As the setting's pattern has it: a whole number of MB or GB, which are powers of ten.
    return -(-int(size[:-2]) * (10**9 if size.endswith("GB") else 10**6) // 2**20)
