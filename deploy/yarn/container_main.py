"""The program of an application master: `weir` with the arguments of the submission, in a container that has the settings' file.

How it ends decides what YARN does next:

    0                an application that succeeded
    1 or 2           an operator must act, so another attempt would fail too: the application is ended, with the reason
    anything else    an outage, a lost lease, a JVM without memory: the attempt failed, and YARN starts another one
"""

import os
import runpy
import sys
from typing import Any

from lakehouse.machine.container import container_of

NEEDS_OPERATOR = (1, 2)
# Verbs without Spark. YARN waits for the application master to register, which Spark's context does.
WITHOUT_SPARK = frozenset({"replay"})
# YARN shows it in one line.
MOST_CHARACTERS = 500


def end_for_good(reason: str) -> None:
    """Ask the ResourceManager to end this application, with a reason that `weir apps` and its own page show."""
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    container = container_of(os.environ)
    if container is None:
        return
    # Spark's own JVM, which the application master runs in, has YARN's client and this user's credentials.
    gateway: Any = SparkContext._gateway or launch_gateway()  # type: ignore[no-untyped-call]
    yarn = gateway.jvm.org.apache.hadoop.yarn
    client = yarn.client.api.YarnClient.createYarnClient()
    client.init(yarn.conf.YarnConfiguration())
    client.start()
    client.killApplication(yarn.api.records.ApplicationId.fromString(container.application), reason[:MOST_CHARACTERS])


def main() -> None:
    """Run the command."""
    if WITHOUT_SPARK & set(sys.argv[1:2]):
        from pyspark import SparkContext

        SparkContext.getOrCreate()
    try:
        # As `python -m weir` does it: the command is run, never imported.
        runpy.run_module("weir", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code in NEEDS_OPERATOR:
            reason = str(end.__cause__ or f"weir ended with exit code {end.code}: its log says why")
            try:
                end_for_good(reason)
            except Exception as error:  # of Java, or of a ResourceManager that does not answer: then YARN tries again
                print(f"weir: the application could not be ended for good ({error})", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
