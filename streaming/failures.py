"""Why did a query fail, and does starting it again help? By type where the error is ours, by Java's class names otherwise."""

import re
from collections.abc import Iterator
from typing import Literal

from py4j.protocol import Py4JNetworkError
from pyspark.errors import AnalysisException

from lakehouse.errors import Fatal, Retryable, WeirError
from lakehouse.locks.lease import LeaseLost
from lakehouse.tables.editions import OtherEdition

# retry: it will pass. stop: somebody has to act. loss: Kafka no longer has the offsets. driver: this process cannot go on.
# unknown: tried again a few times, then stopped.
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
    }
)
STOP = frozenset({"AnalysisException", "ParseException", "NoSuchTableException", "AccessControlException", "ClassNotFoundException"})
DRIVER = frozenset({"OutOfMemoryError", "NoClassDefFoundError"})
DRIVER_TEXTS = ("SparkContext was shut down", "stopped SparkContext")

_QUERY_FOLLOWS = "=== Streaming Query ==="
_CLASS = re.compile(r"(?:^|Caused by: |[\s:])(?:[a-z]\w*\.)+([A-Z][\w$]*(?:Exception|Error))\b", re.MULTILINE)


def classify(error: BaseException) -> Verdict:
    """Judge what ended a query.

    Args:
        error: what the query's body raised where that was kept, else Spark's exception.
    """
    # Gold of another edition came from a rebuild by other settings, and a new process reads those.
    if isinstance(error, LeaseLost | OtherEdition | Py4JNetworkError | ConnectionError):
        return "driver"
    if isinstance(error, WeirError):
        return "retry" if isinstance(error, Retryable) else "stop" if isinstance(error, Fatal) else "unknown"
    text = "\n".join(_texts(error))
    names = set(_CLASS.findall(text))
    if names & DRIVER or any(part in text for part in DRIVER_TEXTS):
        return "driver"
    if names & LOSS or any(part in text for part in LOSS_TEXTS):
        return "loss"
    if isinstance(error, AnalysisException):
        return "stop"
    # A plan that cannot be made may stand beside an outage: what passes goes first.
    return "retry" if names & RETRY else "stop" if names & STOP else "unknown"


def cause_of(error: BaseException) -> str:
    """Give the one sentence of an error that a person needs, at most 500 characters; the rest is in the log."""
    if isinstance(error, WeirError):
        return str(error)
    # What Spark appends of the query (offsets, "Thread State: RUNNABLE", the plan) is no cause.
    lines = [line.strip().lstrip(": ") for line in str(error).partition(_QUERY_FOLLOWS)[0].splitlines() if line.strip()]
    said = [line for line in lines if ": " in line and not line.startswith(("at ", "File ", "JVM stacktrace"))]
    told = (said or lines or ["it says nothing"])[0 if not _is_sparks(error) else -1]
    deepest = next((line.removeprefix("Caused by: ") for line in reversed(lines) if line.startswith("Caused by: ")), "")
    # The outermost of Java's errors may only say that something failed ("Unknown failure", of a locked catalog).
    because = f" (caused by {deepest})" if deepest and deepest not in told else ""
    return f"{type(error).__name__}: {told[: 500 if not because else 250]}{because}"[:500]


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
