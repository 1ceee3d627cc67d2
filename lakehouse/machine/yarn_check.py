"""May Spark start here? Where the settings say that it runs on YARN, an application of `weir submit` is what is meant."""

from typing import Annotated

import typer

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.settings import Settings

ARCHIVE = "spark.yarn.archive"
# Of each verb that starts Spark; the name is that of the programs that weir replaces.
NoYarnCheck = Annotated[bool, typer.Option("--no-yarn-check", help="run here, whatever WEIR_REQUIRE_YARN says")]


class NeedsYarn(LakehouseError, Fatal):
    """Spark would run on this machine, and the settings want YARN."""

    def __init__(self, master: str) -> None:
        super().__init__(
            f"WEIR_REQUIRE_YARN is set and Spark's master is {master}: this would run on this machine. Submit it with `weir submit …` and "
            "WEIR_SPARK_MASTER=yarn, or add --no-yarn-check to run it here."
        )


class NeedsSubmit(LakehouseError, Fatal):
    """Spark's master is YARN, but its executors would have neither weir's jars nor its Python."""

    def __init__(self) -> None:
        super().__init__(
            "WEIR_SPARK_MASTER is yarn: start this with `weir submit …`, which sends the jars to the nodes; with --deploy-mode client the "
            "driver stays on this machine."
        )


def check_yarn(settings: Settings, is_in_container: bool, more: dict[str, str]) -> None:
    """Check that Spark may start here.

    Args:
        settings: all of them.
        is_in_container: whether YARN has started this process.
        more: the settings of Spark that a file brings (`spark_conf_file`).

    Raises:
        NeedsYarn: it would run on this machine, which the settings forbid.
        NeedsSubmit: it would run on YARN without what executors need.
    """
    if settings.spark_master != "yarn":
        if settings.require_yarn:
            raise NeedsYarn(settings.spark_master)
    elif not is_in_container and ARCHIVE not in more:
        raise NeedsSubmit


def without_yarn_check(settings: Settings, is_off: bool) -> Settings:
    """Return the settings of a verb that was given `--no-yarn-check`, or not."""
    return settings.model_copy(update={"require_yarn": False}) if is_off else settings
