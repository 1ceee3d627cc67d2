"""What of the surrounding shell may reach our processes? Spark, Python and Java run by weir's own settings, whatever it brings."""

import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

# Another Spark or Hadoop, its configuration folders, and options for every JVM or Python that starts. Settings of ours that have older
# names (`OLDER_NAMES` in settings.py) stay: the processes that a program starts read them too.
_SETTINGS = frozenset({"SPARK_MASTER", "SPARK_DYN_MIN", "SPARK_DYN_MAX"})
_PREFIXES = ("SPARK_", "PYSPARK_")
_NAMES = frozenset({"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "MASTER"})
# They belong to a Hadoop cluster: they stay where a setting names its configuration. PyArrow finds libhdfs by two of them.
_HADOOP = frozenset(
    {
        *("HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_HOME", "HADOOP_COMMON_HOME", "HADOOP_HDFS_HOME", "HADOOP_YARN_HOME", "HADOOP_PREFIX"),
        *("HADOOP_OPTS", "HADOOP_CLIENT_OPTS", "HADOOP_CLASSPATH", "HIVE_HOME", "HIVE_CONF_DIR", "CLASSPATH"),
    }
)
UTF8_LOCALE = "C.UTF-8"


def in_yarn_container(environment: Mapping[str, str]) -> bool:
    """Return whether Spark's application master on YARN has started this process: its JVM runs already, its environment was made for it."""
    return "CONTAINER_ID" in environment and "PYSPARK_GATEWAY_PORT" in environment


def own_environment(environment: Mapping[str, str], hadoop_conf_dir: str = "") -> dict[str, str]:
    """Return what a process of ours inherits of an environment.

    Args:
        environment: the shell's, or one that went through here before.
        hadoop_conf_dir: the setting of that name; Hadoop's variables are left out without it.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _SETTINGS or not (name.startswith(_PREFIXES) or name in _NAMES or (name in _HADOOP and not hadoop_conf_dir))
    }
    if hadoop_conf_dir:
        kept |= {"HADOOP_CONF_DIR": hadoop_conf_dir, "YARN_CONF_DIR": hadoop_conf_dir}
    spark = find_spec("pyspark")
    if spark is not None and spark.origin is not None:
        # Set, not only left out: PySpark's scripts and the class archive then look at one place.
        kept["SPARK_HOME"] = str(Path(spark.origin).resolve().parent)
    # Java writes and opens a name in the locale's letters only: `Tài liệu` could not be opened under LANG=C. And what it takes for the
    # same letter differs between languages: in Turkish, `ID` is not `id`.
    kept["LC_ALL"] = UTF8_LOCALE
    return kept


def adopt_environment(hadoop_conf_dir: str = "") -> None:
    """Make the environment of this process, and what Python looks for modules in, our own; a container's is that already."""
    if in_yarn_container(os.environ):
        return
    foreign = {os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    foreign.discard(os.path.realpath(Path(__file__).parents[1]))
    if foreign:
        sys.path[:] = [entry for entry in sys.path if not entry or os.path.realpath(entry) not in foreign]
    own = own_environment(os.environ, hadoop_conf_dir)
    for name in set(os.environ) - set(own):
        del os.environ[name]
    os.environ.update(own)


def spark_scratch() -> Path:
    """Return the folder for Spark's shuffles and spills. Spark takes a comma in it for the end of one of several folders."""
    found = Path(tempfile.gettempdir())
    return found if "," not in str(found) else Path("/tmp")


def java_scratch(home: Path) -> Path:
    """Return the folder in which a JVM unpacks its native libraries (SQLite, zstd, snappy) to load them: one that may execute.

    Java's own choice is /tmp, which many machines mount with `noexec`.
    """
    own = home / "run" / "tmp"
    for folder in (Path("/tmp"), Path(tempfile.gettempdir())):
        if may_execute(folder):
            return folder
    own.mkdir(parents=True, exist_ok=True)
    return own


def may_execute(folder: Path) -> bool:
    """Return whether a library that is written into a folder can be loaded from there."""
    try:
        return os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & (os.ST_NOEXEC | os.ST_RDONLY)
    except OSError:
        return False


def java_option(text: str) -> str:
    """Quote an option of a JVM for Spark, which splits a line of options as a shell does."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
