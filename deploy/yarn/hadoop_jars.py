"""Where are Hadoop's own jars? On a class path of their own, fetched when they are first needed: by a local cluster, and to read logs."""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.local.jars import DEFAULT_FOLDER, fetch, locked_jars

LOCK = Path(__file__).with_name("jars.lock")


def hadoop_class_path(conf: Path | str, environment: Mapping[str, str], folder: Path = DEFAULT_FOLDER) -> str:
    """Return the class path of a daemon or client of Hadoop, with its configuration first; missing jars are fetched.

    Raises:
        JarsUnavailable, WrongJarHash, WrongJava: they could not be fetched.
    """
    jars = locked_jars(LOCK)
    fetch(folder, environment, jars)
    return os.pathsep.join(map(str, [conf, *(folder.resolve() / jar.classpath / jar.file_name for jar in jars)]))
