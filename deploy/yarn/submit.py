"""How does a verb of weir become an application on YARN? By `spark-submit` of pyspark, with everything that a node needs on HDFS.

In **cluster mode** the driver runs in the application master's container. It gets there:

- the archives of Python (`environment_archive.py`) and of the jars (`uploads.py`), each uploaded once under a name with its hash;
- the settings as a file `weir.toml` in the application's staging folder, which only its owner may read. So no password stands on a command
  line, in Spark's configuration or in an event log.

In **client mode** the driver stays in this process, and only its executors run on YARN.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from deploy.yarn.application_conf import (
    Archives,
    Resources,
    application_conf,
    as_properties,
    client_mode_conf,
    cluster_mode_conf,
    settings_for_container,
)
from deploy.yarn.environment_archive import build_archive
from deploy.yarn.errors import HdfsNotWritable, NeedsHdfs, NoKeytab, SubmitFailed
from deploy.yarn.hadoop_files import EVENT_LOGS
from deploy.yarn.hadoop_user import hadoop_user
from deploy.yarn.manager import manager_address
from deploy.yarn.uploads import LIBRARY, build_jars_archive, is_there, upload_once
from lakehouse.machine.environment import own_environment
from lakehouse.machine.java import find_java
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import SCHEME, client_of
from lakehouse.storage.paths import local_path

LAUNCH_SECONDS = 600
# The files that are prepared for `spark-submit`.
SETTINGS_FILE, CONF_FILE, ARGUMENTS_FILE = "weir.toml", "spark.conf", "arguments"
_ENTRY_POINT = Path(__file__).with_name("container_main.py")
_APPLICATION = re.compile(r"\bapplication_\d+_\d+\b")
_STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted.

    Attributes:
        arguments: of the command `weir`, such as `stream` and the names of domains.
        domains: that it streams; none for a batch verb.
        resources: what it asks of YARN.
    """

    arguments: tuple[str, ...]
    domains: tuple[str, ...]
    resources: Resources

    @property
    def name(self) -> str:
        """Its name, as YARN shows it."""
        return " ".join(("weir", *(one for one in self.arguments if one != _STREAM)))


def streaming(domains: Sequence[str], resources: Resources) -> Submission:
    """Return what streams some domains in one application."""
    return Submission((_STREAM, *domains), tuple(domains), resources)


def submission(words: Sequence[str], batch_verbs: Sequence[str], resources: Resources) -> Submission:
    """Read what was typed: a batch verb with its arguments, or the domains of a stream with its options."""
    if words[0] in batch_verbs:
        return Submission(tuple(words), (), resources)
    return Submission((_STREAM, *words), tuple(word for word in words if not word.startswith("-")), resources)


def submit(settings: Settings, wanted: Submission) -> str:
    """Submit in cluster mode, and return the application's id when YARN has accepted it.

    Raises:
        NeedsHdfs: a folder is one of this machine, which no node can see.
        NoYarn: the settings name no cluster.
        HdfsNotWritable: the archives cannot be uploaded.
        SubmitFailed: YARN refused it, or does not answer.
        MissingJars, WrongJava, BadSparkConf, NoKeytab: nothing was submitted.
    """
    environment = _environment(settings)
    with tempfile.TemporaryDirectory(prefix="weir-submit-") as name:
        folder = Path(name)
        prepare(settings, wanted, folder)
        spark_submit = str(Path(environment["SPARK_HOME"]) / "bin" / "spark-submit")
        command = [spark_submit, "--properties-file", str(folder / CONF_FILE), str(folder / _ENTRY_POINT.name), *wanted.arguments]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LAUNCH_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise SubmitFailed(f"spark-submit did not end within {LAUNCH_SECONDS} s") from error
    found = _APPLICATION.search(done.stderr)
    if done.returncode != 0 or found is None:
        raise SubmitFailed(_reason(done.stderr))
    return found[0]


def prepare(settings: Settings, wanted: Submission, folder: Path) -> None:
    """Upload what nodes need, and write into a folder what `spark-submit` needs for cluster mode.

        spark.conf          Spark's configuration, with master, deploy mode, name and files
        weir.toml           the settings, with secrets, readable by their owner alone
        container_main.py   the program
        arguments           its arguments, each ended by a zero byte

    Raises:
        As `submit`.
    """
    conf = _conf(settings, wanted) | cluster_mode_conf(settings, wanted.resources)
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / SETTINGS_FILE
    written.unlink(missing_ok=True)
    written.touch(mode=0o600)
    written.write_text(settings_for_container(settings), encoding="utf-8")
    shutil.copy(_ENTRY_POINT, folder)
    conf |= {"spark.master": "yarn", "spark.submit.deployMode": "cluster", "spark.app.name": wanted.name}
    conf["spark.yarn.dist.files"] += f",{written.as_uri()}"
    (folder / CONF_FILE).write_text(as_properties(conf), encoding="utf-8")
    (folder / ARGUMENTS_FILE).write_bytes(b"".join(one.encode() + b"\0" for one in wanted.arguments))


def run_here(settings: Settings, wanted: Submission) -> NoReturn:
    """Become the driver, with executors on YARN (client mode): this process goes on as `weir ARGUMENTS`.

    Raises:
        As `submit`.
    """
    environment = _environment(settings)
    conf = _conf(settings, wanted) | client_mode_conf(settings)
    file = settings.home / "yarn" / "client.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{key}={value}\n" for key, value in conf.items()), encoding="utf-8")
    environment |= {"WEIR_HOME": str(settings.home), "WEIR_SPARK_MASTER": "yarn", "WEIR_SPARK_CONF_FILE": str(file)}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "weir", *wanted.arguments], environment)


def _conf(settings: Settings, wanted: Submission) -> dict[str, str]:
    """Check what can be checked here, upload the archives, and return the configuration of both modes."""
    _check_places(settings)
    manager_address(settings)
    if settings.kerberos_principal and not Path(settings.kerberos_keytab).is_file():
        raise NoKeytab(settings.kerberos_principal, settings.kerberos_keytab)
    client, _ = client_of(f"{SCHEME}:/", settings.hadoop_conf_dir)
    library = f"/user/{hadoop_user(os.environ)}/{LIBRARY}"
    built = build_archive(settings.home / "yarn"), build_jars_archive(settings.home / "yarn")
    try:
        archives = Archives(*(upload_once(client, archive, library) for archive in built))
        has_history = is_there(client, EVENT_LOGS)
    except (OSError, RuntimeError) as error:
        raise HdfsNotWritable("the folder of what nodes need,", library, str(error)) from error
    return application_conf(settings, wanted.resources, archives, wanted.domains, has_history=has_history)


def _environment(settings: Settings) -> dict[str, str]:
    return own_environment(os.environ, settings.hadoop_conf_dir) | {"JAVA_HOME": str(find_java(os.environ).home)}


def _check_places(settings: Settings) -> None:
    places: Mapping[str, str] = {name: getattr(settings, name) for name in ("warehouse_uri", "checkpoints_uri", "state_uri", "catalog_uri")}
    here = [name for name, place in places.items() if place.startswith("sqlite:") or local_path(place) is not None]
    if here:
        raise NeedsHdfs(here)


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(Exception in thread|Caused by|Error|.* ERROR )", line)]
    return (telling or lines or ["spark-submit printed nothing"])[-1][:400]
