"""Is what ended a query judged rightly? By type where it is ours, by Java's class names otherwise."""

import pytest
from py4j.protocol import Py4JNetworkError

from lakehouse.broker.topics import NoKafkaError
from lakehouse.errors import SettingsError
from lakehouse.locks.lease import LeaseLost
from lakehouse.write.fenced_append import TopicRecreated
from streaming.failures import Verdict, cause_of, classify


class FromSpark(Exception):
    """As pyspark converts what the JVM threw: a message, a trace, and the cause beside Python's chain."""

    def __init__(self, message: str, trace: str = "", cause: BaseException | None = None) -> None:
        super().__init__(message)
        self._stackTrace, self._cause = trace, cause


def test_our_errors_are_judged_by_their_type() -> None:
    assert classify(NoKafkaError("broker:1", "down")) == "retry"
    assert classify(TopicRecreated("t", "topic", "a", "b")) == "stop"
    assert classify(SettingsError("x")) == "stop"
    assert classify(LeaseLost("stream x", "somebody")) == "driver"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (FromSpark("x", "org.apache.iceberg.exceptions.ValidationException: Found conflicting files"), "retry"),
        (FromSpark("x", "", FromSpark("y", "Caused by: org.apache.iceberg.exceptions.CommitFailedException: no")), "retry"),
        (FromSpark("org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node"), "retry"),
        (FromSpark("x", "Caused by: org.apache.kafka.clients.consumer.OffsetOutOfRangeException: Fetch position"), "loss"),
        (FromSpark("[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] Some data may have been lost"), "loss"),
        (FromSpark("x", "org.apache.iceberg.exceptions.NoSuchTableException: lh.silver.x"), "stop"),
        (FromSpark("x", "java.lang.OutOfMemoryError: Java heap space"), "driver"),
        (FromSpark("Job aborted because SparkContext was shut down"), "driver"),
        (FromSpark("x", "org.apache.hadoop.ipc.RemoteException(org.apache.hadoop.hdfs.server.namenode.SafeModeException): no"), "retry"),
        (FromSpark("x", "org.apache.hadoop.ipc.RemoteException(org.apache.hadoop.security.AccessControlException): no"), "stop"),
        (OSError("Name node is in safe mode."), "retry"),
        (PermissionError("no"), "stop"),
        (Py4JNetworkError("gone"), "driver"),
        (ConnectionRefusedError(), "driver"),
        (RuntimeError("whatever"), "unknown"),
        (FromSpark("a row says java.lang.ValidationExceptional"), "unknown"),
    ],
)
def test_others_are_judged_by_the_classes_in_their_chain(error: BaseException, verdict: Verdict) -> None:
    assert classify(error) == verdict


def test_cause_is_one_sentence() -> None:
    assert cause_of(RuntimeError("first: line\nsecond: line")) == "RuntimeError: first: line"
    trace = "JVM stacktrace:\norg.x.A: outer\n\tat a.b(C.java:1)\nCaused by: org.x.B: the disk is full\n\tat a.b(C.java:2)"
    assert cause_of(FromSpark(f"x\n{trace}", trace)) == "FromSpark: Caused by: org.x.B: the disk is full"
    of_java = (
        "calling o1.append.\n: org.x.Unchecked: Unknown failure\n\tat a.b(C.java:1)\nCaused by: org.x.Busy: locked\n\tat a.b(C.java:2)"
    )
    assert cause_of(RuntimeError(of_java)) == "RuntimeError: org.x.Unchecked: Unknown failure (caused by org.x.Busy: locked)"
    of_query = "Failed: the disk is full\n=== Streaming Query ===\nIdentifier: q [id = 1]\nCurrent State: ACTIVE\nThread State: RUNNABLE\n"
    assert cause_of(FromSpark(of_query)) == "FromSpark: Failed: the disk is full"
    of_hdfs = "Cannot create file. Name node is in safe mode.\nIt was turned on by hand.\n\tat org.x.Server$Handler.run(Server.java:3198)"
    assert cause_of(FromSpark(of_hdfs)) == "FromSpark: Cannot create file. Name node is in safe mode."
    assert cause_of(FromSpark("\tat a.b(C.java:1)")) == "FromSpark: no message"
    assert cause_of(NoKafkaError("b:1", "down")) == str(NoKafkaError("b:1", "down"))
