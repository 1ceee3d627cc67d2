"""How does a verb of weir become an application on YARN? By `spark-submit` of pyspark, with everything that a node needs on HDFS.

The driver runs in the application master's container (cluster mode). It gets there:

- the Python archive (`environment_archive.py`) and the jars of Spark and weir, each uploaded once under a name with its hash;
- the settings as a file `weir.toml` in the application's staging folder, which only its owner may read. So no password stands on a command
  line, in Spark's configuration or in an event log.

A container's memory is the heap, DuckDB's limit and what else the process takes, and YARN ends one that takes more.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdfs_native import Client, WriteOptions
from pydantic import SecretStr

from deploy.local.jars import jars_for
from deploy.yarn.archives import built_once
from deploy.yarn.environment_archive import ENTRY, build_archive
from deploy.yarn.errors import HdfsNotWritable, NeedsHdfs, SubmitFailed
from deploy.yarn.hadoop_files import EVENT_LOGS, HOST
from deploy.yarn.hadoop_user import hadoop_user
from deploy.yarn.manager import TAG, manager_address, site_values
from lakehouse.machine.environment import own_environment
from lakehouse.machine.java import find_java
from lakehouse.settings import Settings
from lakehouse.spark import DRIVER_OPTIONS, dynamic_allocation
from lakehouse.storage.hdfs import SCHEME, client_of
from lakehouse.storage.paths import local_path

# Both archives are uploaded into this folder of the user's home on HDFS.
LIBRARY = ".weir"
# Names of the unpacked archive and of the settings' file in a container.
UNPACKED = "weir-python"
SETTINGS_FILE = "weir.toml"
# Beside heap and DuckDB: Python, Arrow's buffers, the JVM's own memory and compiled code [MiB].
OVERHEAD = 1_024
EXECUTOR_OVERHEAD = 384
LAUNCH_SECONDS = 600
_CHUNK = 8 * 2**20
_ENTRY_POINT = Path(__file__).with_name("container_main.py")
_LOG = Path(__file__).with_name("log4j2-container.properties")
# Settings that name this machine: a container has its own.
_OF_THIS_MACHINE = frozenset({"home", "jars_path", "hadoop_conf_dir", "metrics_port", "kafka_port", "cds_archive", "budget_path"})
_APPLICATION = re.compile(r"\bapplication_\d+_\d+\b")


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


def submit(settings: Settings, arguments: Sequence[str], name: str, resources: Resources) -> str:
    """Submit `weir ARGUMENTS` in cluster mode, and return when YARN has accepted it.

    Args:
        settings: that the application gets; the home is the container's own folder.
        arguments: of the command `weir`, such as `stream` and the name of a domain.
        name: as YARN shows it.
        resources: what it asks of YARN.

    Returns:
        The application's id.

    Raises:
        NeedsHdfs: a folder is one of this machine, which no node can see.
        NoYarn: the settings name no cluster.
        HdfsNotWritable: the archives cannot be uploaded.
        SubmitFailed: YARN refused it, or does not answer.
        MissingJars, WrongJava: nothing was submitted.
    """
    _check_places(settings)
    manager_address(settings)
    java = find_java(os.environ)
    environment = own_environment(os.environ, settings.hadoop_conf_dir) | {"JAVA_HOME": str(java.home)}
    client, _ = client_of(f"{SCHEME}:/", settings.hadoop_conf_dir)
    library = f"/user/{hadoop_user(environment)}/{LIBRARY}"
    archives = build_archive(settings.home / "yarn"), build_jars_archive(settings.home / "yarn")
    try:
        python, jars = (upload_once(client, archive, library) for archive in archives)
    except (OSError, RuntimeError) as error:
        raise HdfsNotWritable("the folder of what nodes need,", library, str(error)) from error
    with tempfile.TemporaryDirectory(prefix="weir-submit-") as folder:
        written = Path(folder) / SETTINGS_FILE
        written.touch(mode=0o600)
        written.write_text(settings_for_container(settings))
        conf = container_conf(settings, resources, python, jars, has_history=_is_there(client, EVENT_LOGS))
        command = [
            *(str(Path(environment["SPARK_HOME"]) / "bin" / "spark-submit"), "--master", "yarn", "--deploy-mode", "cluster"),
            *("--name", name, "--files", f"{written},{_LOG}"),
            *(part for key, value in conf.items() for part in ("--conf", f"{key}={value}")),
            *(str(_ENTRY_POINT), *arguments),
        ]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LAUNCH_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise SubmitFailed(f"spark-submit did not end within {LAUNCH_SECONDS} s") from error
    found = _APPLICATION.search(done.stderr)
    if done.returncode != 0 or found is None:
        raise SubmitFailed(_reason(done.stderr))
    return found[0]


def container_conf(settings: Settings, resources: Resources, python: str, jars: str, has_history: bool = False) -> dict[str, str]:
    """Return Spark's configuration of an application in cluster mode.

    Args:
        settings: all of them.
        resources: what it asks of YARN.
        python, jars: URIs of the two archives.
        has_history: whether HDFS has the folder that a history server reads.
    """
    options = [*DRIVER_OPTIONS, f"-Dlog4j2.configurationFile={_LOG.name}", *settings.spark_java_options.split()]
    entry = f"./{UNPACKED}/{ENTRY}"
    conf = {
        "spark.yarn.queue": resources.queue,
        "spark.yarn.tags": TAG,
        "spark.yarn.archive": jars,
        "spark.yarn.dist.archives": f"{python}#{UNPACKED}",
        "spark.pyspark.python": entry,
        "spark.pyspark.driver.python": entry,
        "spark.yarn.appMasterEnv.WEIR_HOME": ".",
        # The one interpreter of both; a node's own has no say.
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": entry,
        "spark.executorEnv.PYSPARK_PYTHON": entry,
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.driver.memoryOverhead": str(_mebibytes(settings.duckdb_memory) + OVERHEAD),
        "spark.driver.cores": str(resources.driver_cores),
        "spark.driver.extraJavaOptions": " ".join(options),
        "spark.executor.memory": resources.executor_memory,
        "spark.executor.memoryOverhead": str(EXECUTOR_OVERHEAD),
        "spark.executor.cores": str(resources.executor_cores),
        # A driver that fails is started again, on another node if there is one, and earlier failures are forgotten after an hour.
        "spark.yarn.maxAppAttempts": str(resources.attempts),
        "spark.yarn.am.attemptFailuresValidityInterval": "1h",
        "spark.executor.failuresValidityInterval": "1h",
        # A stream's end is asked for; YARN must not wait for a client that is gone.
        "spark.yarn.submit.waitAppCompletion": "false",
        "spark.yarn.rolledLog.includePattern": "*",
        "spark.ui.showConsoleProgress": "false",
    }
    conf |= dynamic_allocation(settings) or {"spark.executor.instances": "1"}
    if has_history:
        conf |= {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"{SCHEME}://{EVENT_LOGS}",
            "spark.eventLog.rolling.enabled": "true",
            "spark.eventLog.rolling.maxFileSize": "16m",
        }
    if _is_loopback(settings):
        # The host's own name may lead elsewhere, or nowhere.
        conf |= {f"spark.{kind}.{name}": HOST for kind in ("yarn.appMasterEnv", "executorEnv") for name in _LOCAL}
    return conf


_LOCAL = ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME")


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


def build_jars_archive(folder: Path) -> Path:
    """Put the jars of Spark and of weir into one file, as `spark.yarn.archive` takes it; one with the same jars is left alone."""
    import pyspark

    ours = jars_for("spark")
    jars = {jar.name: jar for jar in (*sorted((Path(pyspark.__file__).resolve().parent / "jars").glob("*.jar")), *ours)}
    digest = hashlib.sha256()
    for name, jar in sorted(jars.items()):
        with jar.open("rb") as content:
            digest.update(f"{name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())

    def write(path: Path) -> None:
        # Stored, since a jar is packed already.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
            for name, jar in sorted(jars.items()):
                packed.write(jar, name)

    return built_once(folder, "weir-jars", digest.hexdigest()[:16], ".zip", write)


def upload_once(client: Client, file: Path, folder: str) -> str:
    """Upload a file whose name tells its content, unless it is there in its whole length; return its URI.

    It may be read by everyone: only then does YARN keep one copy per node for all applications.
    """
    target = f"{folder}/{file.name}"
    if _is_there(client, target) and client.get_file_info(target).length == file.stat().st_size:
        return f"{SCHEME}://{target}"
    client.mkdirs(folder, 0o755, create_parent=True)
    # Another program may upload the same file at this moment: each to a name of its own, and the last to be done wins.
    beside = f"{target}.{os.getpid()}.new"
    with file.open("rb") as content, client.create(beside, WriteOptions(permission=0o644, overwrite=True)) as remote:
        while part := content.read(_CHUNK):
            remote.write(part)
    client.rename(beside, target, overwrite=True)
    return f"{SCHEME}://{target}"


def _is_there(client: Client, path: str) -> bool:
    try:
        client.get_file_info(path)
    except FileNotFoundError:
        return False
    return True


def _check_places(settings: Settings) -> None:
    places: Mapping[str, str] = {name: getattr(settings, name) for name in ("warehouse_uri", "checkpoints_uri", "state_uri", "catalog_uri")}
    here = [name for name, place in places.items() if place.startswith("sqlite:") or local_path(place) is not None]
    if here:
        raise NeedsHdfs(here)


def _is_loopback(settings: Settings) -> bool:
    file = Path(settings.hadoop_conf_dir or "/nonexistent") / "yarn-site.xml"
    return file.exists() and site_values(file).get("yarn.resourcemanager.hostname") in (HOST, "localhost")


def _mebibytes(size: str) -> int:
    # As the setting's pattern has it: a whole number of MB or GB, which are powers of ten.
    return -(-int(size[:-2]) * (10**9 if size.endswith("GB") else 10**6) // 2**20)


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(Exception in thread|Caused by|Error|.* ERROR )", line)]
    return (telling or lines or ["spark-submit printed nothing"])[-1][:400]
