"""Which archive of loaded classes fits the JVM that is about to start?

A driver's JVM reads and checks some 19,000 classes until it works, a third of the time of its start. `make cds` keeps them, ready to use,
in a file beside the jars (AppCDS, a dynamic archive). Its name holds a fingerprint of the Java and of the jars: after an upgrade of either
none is found, rather than a wrong one. No JVM is started to know that.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from lakehouse.machine.environment import java_option

PATTERN = "spark-*.jsa"
# An operator's own of these means another archive, or none.
_CHOSEN = ("-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit", "-Xshare")


def archive_stem(jars: Sequence[Path], environment: Mapping[str, str]) -> Path | None:
    """Name the archive for this Java and these jars, whether or not it is there: its path without length and suffix.

    Args:
        jars: the jars that go before Spark's on the class path, in their order; at least one, in JARS/spark.
        environment: what the driver's JVM will be started with; only looked at for JAVA_HOME, PATH and SPARK_HOME.

    Returns:
        A path in the folder JARS, or None where the Java or Spark's jars are not to be found.
    """
    java, spark = _java_home(environment), _spark_home(environment)
    if java is None or spark is None:
        return None
    try:
        facts = [str(java), (java / "release").read_text(), *_facts(java, spark, jars)]
    except OSError:  # a Java without its `release`, or a file that has just gone
        return None
    return jars[0].parents[1] / f"spark-{hashlib.sha256(os.fsencode(chr(0).join(facts))).hexdigest()[:12]}"


def archive_file(stem: Path, size: int) -> Path:
    """Name the file of an archive of so many bytes.

    The JVM does not look at the length, and one that maps an archive which was cut, by a full disk or a copy, dies of it (SIGBUS).
    """
    return stem.with_name(f"{stem.name}-{size}.jsa")


def find_archive(stem: Path) -> Path | None:
    """Find the archive that is there in its whole length."""
    for file in stem.parent.glob(f"{stem.name}-*.jsa"):
        try:
            if file == archive_file(stem, file.stat().st_size):
                return file
        except OSError:  # removed by `make cds` just now
            continue
    return None


def archive_options(jars: Sequence[Path], environment: Mapping[str, str], others: Sequence[str]) -> list[str]:
    """Return the JVM's options that use the archive: none where there is no archive, or where its other options choose one.

    Args:
        jars: see `archive_stem`.
        environment: see `archive_stem`.
        others: the JVM's other options.
    """
    if any(option.lstrip("\"'").startswith(_CHOSEN) for option in others):
        return []
    stem = archive_stem(jars, environment)
    archive = find_archive(stem) if stem is not None else None
    if archive is None:
        return []
    # The JVM compares paths, sizes and times itself. With `auto` it goes on without an archive that does not fit, and says so in the
    # driver's log unless an option turns it off. The quotes are for Spark, which splits the options at spaces.
    return [java_option(f"-XX:SharedArchiveFile={archive}"), "-Xshare:auto", "-Xlog:cds*=off"]


def _facts(java: Path, spark: Path, jars: Sequence[Path]) -> Iterator[str]:
    """Name path, size and time of every file that the JVM would compare, in the order of the class path."""
    with os.scandir(spark / "jars") as entries:
        # Spark names them as `jars/*`, which the JVM's launcher replaces by the files in the folder's own order.
        others = [Path(entry.path) for entry in entries if entry.name.endswith(".jar")]
    for file in (java / "lib" / "modules", *jars, *others):
        known = file.stat()
        yield f"{file} {known.st_size} {known.st_mtime_ns}"


def _java_home(environment: Mapping[str, str]) -> Path | None:
    """Find the Java that Spark's bin/spark-class will start: that of JAVA_HOME, else the first on PATH."""
    if home := environment.get("JAVA_HOME"):
        return Path(home).resolve()
    launcher = shutil.which("java", path=environment.get("PATH", ""))
    return Path(launcher).resolve().parents[1] if launcher else None


def _spark_home(environment: Mapping[str, str]) -> Path | None:
    if home := environment.get("SPARK_HOME"):
        return Path(home).resolve()
    found = find_spec("pyspark")
    return Path(found.origin).resolve().parent if found is not None and found.origin else None
