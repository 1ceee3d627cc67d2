"""What can be wrong with a cluster, and how does the operator fix it?"""

import re
from collections.abc import Sequence

from lakehouse.errors import DeployError, Fatal, Retryable


class NeedsHdfs(DeployError, Fatal):
    """Settings name folders of this machine, which the nodes of a cluster cannot see."""

    def __init__(self, names: Sequence[str]) -> None:
        listed = ", ".join(names)
        super().__init__(
            f"{listed}: on YARN, tables, checkpoints and state must lie where every node sees them, and the catalog too. "
            "Set WEIR_WAREHOUSE_URI, WEIR_CHECKPOINTS_URI and WEIR_STATE_URI to hdfs:// folders, and WEIR_CATALOG_URI to "
            "postgresql://… (recommended) or hdfs://…"
        )


class SubmitFailed(DeployError, Retryable):
    """YARN did not take an application."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The application was not submitted: {reason}. `weir cluster status` and the ResourceManager's page say how YARN is."
        )


class NoYarn(DeployError, Retryable):
    """There is no ResourceManager to ask."""

    def __init__(self, address: str, problem: str) -> None:
        where = f" at {address}" if address else ""
        super().__init__(
            f"YARN's ResourceManager{where} cannot be asked: {problem}. Set WEIR_HADOOP_CONF_DIR to the cluster's configuration, or start "
            "a cluster on this machine with `weir cluster up`."
        )


class NoKeytab(DeployError, Fatal):
    """A principal was set without the file that holds its key."""

    def __init__(self, principal: str, keytab: str) -> None:
        found = f"there is no file {keytab}" if keytab else "WEIR_KERBEROS_KEYTAB is not set"
        super().__init__(
            f"WEIR_KERBEROS_PRINCIPAL is {principal}, and {found}: an application renews its access to the cluster with that key. Name the "
            "file, or unset the principal for a cluster without Kerberos."
        )


class AlreadySubmitted(DeployError, Fatal):
    """An application streams the domain already."""

    def __init__(self, domain: str, application: str) -> None:
        super().__init__(
            f"{application} streams {domain} already: two drivers would write the same tables. `weir stop {application}` ends it; --attach "
            "waits for it instead."
        )


class UnknownQueue(DeployError, Fatal):
    """The scheduler has no such queue, or it takes nothing."""

    def __init__(self, queue: str, names: Sequence[str], problem: str) -> None:
        super().__init__(f"Queue {queue!r} {problem}; there are {', '.join(names)}. Set WEIR_YARN_QUEUE, or --queue of `weir submit`.")


class TooSmall(DeployError, Fatal):
    """No node can hold the driver's container."""

    def __init__(self, wanted: int, largest: int) -> None:
        super().__init__(
            f"The driver's container needs {wanted} MiB and the largest node has {largest}: an application would wait without end. Lower "
            "WEIR_SPARK_DRIVER_MEMORY or WEIR_DUCKDB_MEMORY, or give the nodes more (yarn.nodemanager.resource.memory-mb)."
        )


class CatalogNotWritable(DeployError, Fatal):
    """The catalog's database takes no changes."""

    def __init__(self, uri: str, problem: str) -> None:
        super().__init__(f"The catalog {uri} cannot be written: {problem}. Give its user the right to create tables and change their rows.")


class UnknownApplication(DeployError, Fatal):
    """YARN knows no such application."""

    def __init__(self, application: str) -> None:
        super().__init__(f"YARN knows no application {application!r}. `weir apps --all` lists those of weir.")


class NoLogs(DeployError, Retryable):
    """The log of an application that has ended cannot be found."""

    def __init__(self, application: str) -> None:
        super().__init__(
            f"There is no log of {application} on HDFS. It comes some seconds after the end, where yarn.log-aggregation-enable is on and "
            "this user may read yarn.nodemanager.remote-app-log-dir; YARN deletes it after yarn.log-aggregation.retain-seconds."
        )


class HdfsNotWritable(DeployError, Retryable):
    """A folder on HDFS cannot be written."""

    def __init__(self, setting: str, uri: str, problem: str) -> None:
        # hdfs-native shows Java's class and message as two quoted texts, and the message's first line is the sentence.
        quoted = re.search(r'RPCError\("[^"]*", "((?:[^"\\]|\\.)*)', problem)
        text = quoted[1].replace("\\n", "\n") if quoted else problem
        first = next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), problem)
        if "SafeMode" in problem or "safe mode" in problem:
            step = "The NameNode is in safe mode: wait until its DataNodes have reported, or see its page for missing blocks and full disks"
        elif "ermission" in problem or "AccessControl" in problem:
            step = "Give this user the right to write there (hdfs dfs -chown), or set HADOOP_USER_NAME to one who has it"
        elif "quota" in problem.lower() or "could only be written to 0" in problem:
            step = "Free some space, or raise the quota; see the NameNode's page for its DataNodes"
        else:
            step = "See that the NameNode runs and that WEIR_HADOOP_CONF_DIR is the configuration of this cluster"
        super().__init__(f"{setting} {uri} cannot be written: {first[:300]}. {step}.")
