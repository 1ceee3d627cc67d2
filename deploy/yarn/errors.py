"""What can be wrong with a cluster, and how does the operator fix it?"""

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


class UnknownApplication(DeployError, Fatal):
    """YARN knows no such application."""

    def __init__(self, application: str) -> None:
        super().__init__(f"YARN knows no application {application!r}. `weir apps --all` lists those of weir.")


class HdfsNotWritable(DeployError, Retryable):
    """A folder on HDFS cannot be written."""

    def __init__(self, setting: str, uri: str, problem: str) -> None:
        first = next((line.strip() for line in problem.splitlines() if line.strip()), problem)
        if "SafeMode" in problem or "safe mode" in problem:
            step = "The NameNode is in safe mode: wait until its DataNodes have reported, or see its page for missing blocks and full disks"
        elif "ermission" in problem or "AccessControl" in problem:
            step = "Give this user the right to write there (hdfs dfs -chown), or set HADOOP_USER_NAME to one who has it"
        elif "quota" in problem.lower() or "could only be written to 0" in problem:
            step = "Free some space, or raise the quota; see the NameNode's page for its DataNodes"
        else:
            step = "See that the NameNode runs and that WEIR_HADOOP_CONF_DIR is the configuration of this cluster"
        super().__init__(f"{setting} {uri} cannot be written: {first[:300]}. {step}.")
