"""Why did a query fail, and does a restart help? Decided by type for our own errors, by the names of Java's classes otherwise."""

import re
from collections.abc import Iterator
from typing import Literal

from py4j.protocol import Py4JNetworkError
from pyspark.errors import AnalysisException

from lakehouse.errors import Fatal, Retryable, WeirError
from lakehouse.locks.lease import LeaseLost
from lakehouse.tables.editions import OtherEdition

# retry: it will pass. stop: an operator must act. loss: Kafka no longer has the offsets. driver: this process cannot continue.
# unknown: retried a few times, then stopped.
Verdict = Literal["retry", "stop", "loss", "driver", "unknown"]

# Simple names of Java classes: packages move between versions and shaded jars.
LOSS = frozenset({"OffsetOutOfRangeException", "KafkaIllegalStateException"})
LOSS_TEXTS = ("KAFKA_DATA_LOSS", "Some data may have been lost", "Some data are missed")
RETRY = frozenset(
    {
        "ValidationException",
        "CommitFailedException",
        "CommitStateUnknownException",
        "TimeoutException",
        "DisconnectException",
        "NetworkException",
        "RetriableException",
        "UnknownTopicOrPartitionException",
        "NotLeaderOrFollowerException",
        "LeaderNotAvailableException",
        "ConnectException",
        "SocketTimeoutException",
        "SQLTransientConnectionException",
        "UncheckedSQLException",
        "RuntimeIOException",
        "UncheckedIOException",
        "IOException",
        # HDFS in safe mode, a NameNode that hands over, a block whose DataNodes are away.
        "SafeModeException",
        "StandbyException",
        "BlockMissingException",
        "ConnectTimeoutException",
        "NoRouteToHostException",
        "EOFException",
    }
)
STOP = frozenset({"AnalysisException", "ParseException", "NoSuchTableException", "AccessControlException", "ClassNotFoundException"})
DRIVER = frozenset({"OutOfMemoryError", "NoClassDefFoundError"})
DRIVER_TEXTS = ("SparkContext was shut down", "stopped SparkContext")

_QUERY_FOLLOWS = "=== Streaming Query ==="
# RemoteException has the class that the server raised in brackets.
_CLASS = re.compile(r"(?:^|Caused by: |[\s:(])(?:[a-z]\w*\.)+([A-Z][\w$]*(?:Exception|Error))\b", re.MULTILINE)


def classify(error: BaseException) -> Verdict:
    """Decide what to do about the error that ended a query.

    Args:
        error: the exception from the body of the micro-batch where it was kept, else Spark's.
    """
    # Gold of another edition comes from a rebuild with other settings; a new process reads those.
    if isinstance(error, LeaseLost | OtherEdition | Py4JNetworkError | ConnectionError):
        return "driver"
    if isinstance(error, WeirError):
        return "retry" if isinstance(error, Retryable) else "stop" if isinstance(error, Fatal) else "unknown"
    if isinstance(error, OSError):
        # A full disk, or a file system that does not answer, may be mended by itself; a missing right is not.
        return "stop" if isinstance(error, PermissionError) else "retry"
    text = "\n".join(_texts(error))
    names = set(_CLASS.findall(text))
    if names & DRIVER or any(part in text for part in DRIVER_TEXTS):
        return "driver"
    if names & LOSS or any(part in text for part in LOSS_TEXTS):
        return "loss"
    if isinstance(error, AnalysisException):
        return "stop"
    # An error of the plan may be the consequence of an outage, so what passes is looked for first.
    return "retry" if names & RETRY else "stop" if names & STOP else "unknown"


def cause_of(error: BaseException) -> str:
    """Return the sentence of an error that an operator needs, at most 500 characters; the log has the rest."""
    if isinstance(error, WeirError):
        return str(error)
    # Spark appends the query's offsets, thread state and plan, which are not the cause.
    lines = [line.strip().lstrip(": ") for line in str(error).partition(_QUERY_FOLLOWS)[0].splitlines() if line.strip()]
    # Of HDFS the message itself holds where it was raised.
    told = [line for line in lines if not line.startswith(("at ", "File ", "JVM stacktrace"))]
    sentences = [line for line in told if ": " in line]
    sentence = (sentences[-1:] if _is_sparks(error) else sentences[:1]) or told[:1] or ["no message"]
    deepest = next((line.removeprefix("Caused by: ") for line in reversed(lines) if line.startswith("Caused by: ")), "")
    # Java's outermost error may only say that something failed, such as "Unknown failure" for a locked catalog.
    because = f" (caused by {deepest})" if deepest and deepest not in sentence[0] else ""
    return f"{type(error).__name__}: {sentence[0][: 500 if not because else 250]}{because}"[:500]


def _is_sparks(error: BaseException) -> bool:
    return hasattr(error, "_stackTrace")


def _texts(error: BaseException | None) -> Iterator[str]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield str(error)
        # Spark's converted exceptions keep their Java cause and its trace beside Python's chain.
        yield str(getattr(error, "_stackTrace", ""))
        error = getattr(error, "_cause", None) or error.__cause__
