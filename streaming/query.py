"""What is a query of a domain to the driver that runs it? Something that starts, is asked before each micro-batch, and explains a loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.storage.folders import HadoopFolder
from streaming.checkpoints import claim, other_inputs, tidy
from streaming.supervisor import Supervised

log = structlog.get_logger("weir.stream")


class DomainQuery(Protocol):
    """One long-running query of a domain."""

    @property
    def name(self) -> str:
        """The query's name, after the table that it writes; also that of its checkpoint."""

    def start(self, me: Supervised) -> StreamingQuery:
        """Examine what the query needs, and start it.

        Args:
            me: the query over all its lives: guards the body of each micro-batch, and takes a note for the operator.

        Raises:
            WeirError: it must not start, or not now; the supervisor judges which.
        """

    def before_batch(self) -> None:
        """Raise where the next micro-batch must not run."""

    def explain(self) -> None:
        """Raise what is really wrong where Spark only says that offsets are gone."""

    def move_checkpoint_aside(self) -> None:
        """Begin with a new checkpoint at the next start; the old one stays beside it."""


def begin_new_checkpoint_for_other_inputs(folder: HadoopFolder, query: str, inputs: Sequence[str]) -> str:
    """Move a checkpoint aside whose query read something else; return a sentence about it, empty where it is the same.

    Nothing is lost: bronze goes on behind each table's mark, and silver reads bronze again, which changes nothing.
    """
    before = other_inputs(folder, query, inputs)
    if not before:
        return ""
    aside = folder.move_aside()
    log.warning("new checkpoint: the query's inputs changed", query=query, before=before, now=list(inputs), to=aside)
    return f"began a new checkpoint, since it read {', '.join(before)} and reads {', '.join(inputs)} now; the old one is {aside}"


def take_checkpoint(folder: HadoopFolder, query: str, topic_ids: Mapping[str, str], inputs: Sequence[str]) -> None:
    """Make a checkpoint that was found good ready for its query."""
    for name in tidy(folder):
        log.warning("checksum without its file removed from the checkpoint", query=query, file=name)
    claim(folder, query, topic_ids, inputs)


def move_aside(folder: HadoopFolder, query: str) -> None:
    """Move a checkpoint aside, if there is one."""
    if folder.names():
        log.info("checkpoint moved aside", query=query, to=folder.move_aside())


def in_pool(spark: SparkSession, query: str, start: Callable[[], StreamingQuery]) -> StreamingQuery:
    """Start a query in a scheduler pool of its own, so that queries share the cores fairly."""
    spark.sparkContext.setLocalProperty("spark.scheduler.pool", query)
    return start()
