"""What did an application's driver say? Its log, from the node while it runs and from HDFS afterwards, by Hadoop's own log client."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from deploy.yarn.hadoop_jars import hadoop_class_path
from deploy.yarn.manager import Manager
from lakehouse.machine.environment import own_environment
from lakehouse.machine.java import find_java
from lakehouse.settings import Settings

FOLLOW_SECONDS = 3.0
_CLIENT = "org.apache.hadoop.yarn.client.cli.LogsCLI"


def print_logs(settings: Settings, application: str, follow: bool) -> None:
    """Print the driver's log, and what is added to it until the application ends.

    Raises:
        NoYarn, UnknownApplication: there is nothing to ask, or nothing to ask for.
    """
    manager = Manager(settings)
    printed = 0
    while True:
        has_ended = manager.app(application).has_ended
        text = read_logs(settings, application)
        sys.stdout.write(text[printed:])
        sys.stdout.flush()
        # What was on the node alone before is one whole on HDFS afterwards; it may be longer, never shorter.
        printed = max(printed, len(text))
        if has_ended or not follow:
            return
        time.sleep(FOLLOW_SECONDS)


def read_logs(settings: Settings, application: str, files: Sequence[str] = ("stdout", "stderr")) -> str:
    """Return the log of the newest attempt's driver."""
    java = find_java(os.environ)
    # The client among Spark's jars cannot read logs: it lacks a library.
    class_path = hadoop_class_path(settings.hadoop_conf_dir, os.environ)
    command = [str(java.launcher), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", class_path, _CLIENT]
    options = ["-applicationId", application, "-am", "-1", "-log_files", ",".join(files)]
    environment = own_environment(os.environ, settings.hadoop_conf_dir)
    done = subprocess.run([*command, *options], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode(errors="replace")
