"""What did an application's driver say? Its log, from the node while it runs and from HDFS afterwards, by Hadoop's own log client."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.yarn.errors import NoLogs
from deploy.yarn.hadoop_jars import hadoop_class_path
from deploy.yarn.manager import Manager
from lakehouse.machine.environment import own_environment
from lakehouse.machine.java import find_java
from lakehouse.machine.logs import CONTAINER_LOG
from lakehouse.settings import Settings

FOLLOW_SECONDS = 3.0
# After an application has ended, until its log is on HDFS.
COLLECTED_SECONDS = 60.0
_QUIET = Path(__file__).with_name("log4j-quiet.properties")
_CLIENT = "org.apache.hadoop.yarn.client.cli.LogsCLI"


def print_logs(settings: Settings, application: str, follow: bool) -> None:
    """Print the driver's log; with `follow`, go on printing new lines until the application ends.

    Raises:
        NoYarn, UnknownApplication: there is nothing to ask, or nothing to ask for.
        NoLogs: it has ended, and its log is not on HDFS.
    """
    manager = Manager(settings)
    manager.app(application)  # an unknown one is said before anything is fetched
    command = _command(settings, application)
    printed, collected_by = "", time.monotonic() + COLLECTED_SECONDS
    while True:
        has_ended = manager.app(application).has_ended
        text = _read(settings, command)
        if has_ended and not text.strip():
            # Its node copies its files to HDFS only now.
            if time.monotonic() > collected_by:
                raise NoLogs(application)
            time.sleep(1)
            continue
        sys.stdout.write(new_part(text, printed))
        sys.stdout.flush()
        printed = text or printed
        if has_ended or not follow:
            return
        time.sleep(FOLLOW_SECONDS)


def new_part(text: str, before: str) -> str:
    """Return what has come to a log since it was read before; all of it where it is another file by now, as after it was rolled."""
    last = before.rstrip().splitlines()[-1:]
    _, found, after = text.rpartition(last[0]) if last else ("", "", text)
    return after.removeprefix("\n") if found else text


def _command(settings: Settings, application: str) -> list[str]:
    """Return the command that prints the log of the newest attempt's driver."""
    java = find_java(os.environ)
    # The client among Spark's jars cannot read logs: it lacks a library.
    class_path = hadoop_class_path(settings.hadoop_conf_dir, os.environ)
    quiet = f"-Dlog4j.configuration={_QUIET.as_uri()}"
    client = [str(java.launcher), "-Xmx256m", "-XX:TieredStopAtLevel=1", quiet, "-cp", class_path, _CLIENT]
    return [*client, "-applicationId", application, "-am", "-1", "-log_files", f"stdout,stderr,{CONTAINER_LOG}"]


def _read(settings: Settings, command: Sequence[str]) -> str:
    environment = own_environment(os.environ, settings.hadoop_conf_dir)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode(errors="replace")
