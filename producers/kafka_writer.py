"""How does a record get into Kafka, and how do we know that it did?

Idempotent, acknowledged by all replicas, keyed by the contract's entity. Every message's delivery report is counted: what was
sent and not reported as delivered is an error when flushed, never a guess.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakehouse.broker.bootstrap import client_text
from lakehouse.broker.topics import NoKafkaAddressError
from lakehouse.contract import WIRE_VERSION_HEADER, Contract, Value
from lakehouse.errors import Fatal, ProducerError, Retryable
from monitoring import metrics

DELIVERY_SECONDS = 60.0
# Of each kind of bad record only the first few are described: one line a record would bury the log.
DESCRIBED = 5

Headers = list[tuple[str, str | bytes | None]]

log = structlog.get_logger()


class DeliveryError(ProducerError, Retryable):
    """Messages were handed to Kafka and not all of them were reported as delivered."""


class InvalidRecordsError(ProducerError, Fatal):
    """The source gave records that are no records of the contract; they could not be sent."""


class KafkaClient(Protocol):
    """What the writer needs of confluent-kafka's Producer; a test hands in its own."""

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue a message; BufferError when the queue is full."""

    def poll(self, timeout: float) -> int:
        """Serve delivery reports."""

    def flush(self, timeout: float) -> int:
        """Wait for all delivery reports; the number still missing."""

    def purge(self) -> None:
        """Drop what is queued."""


@dataclass(slots=True)
class Counts:
    """What became of the records of one writer."""

    sent: int = 0
    delivered: int = 0
    failed: int = 0
    invalid: int = 0
    out_of_range: int = 0


def connect(bootstrap: str, run_id: str) -> Producer:
    """Make a client for an idempotent producer; it connects by itself when it is used.

    Raises:
        NoKafkaAddressError, BadBootstrapError: no address is known, or they cannot be read.
    """
    if not bootstrap:
        raise NoKafkaAddressError
    return Producer(
        {
            "bootstrap.servers": client_text(bootstrap),
            "client.id": f"weir-{run_id}",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 20,
            # The Java clients' partitioner: any other producer of the topic puts a key into the same partition.
            "partitioner": "murmur2_random",
            # A little less than a flush waits, so that it sees the reports of what failed.
            "message.timeout.ms": int(DELIVERY_SECONDS * 900),
            # librdkafka writes a line per failed connection to stderr; what matters comes back as an error.
            "log_level": 2,
        }
    )


class KafkaWriter:
    """Send records of one contract. Leaving its `with` flushes; an exception on the way flushes as well, but is the one raised.

    Args:
        client: of `connect`.
        contract: what the records must be.
        source: goes into the header `source` and the metrics.
        run_id: goes into the header `run_id`.
        delivery_seconds: how long to wait for delivery reports before the rest counts as lost.
    """

    def __init__(
        self, client: KafkaClient, contract: Contract, source: str, run_id: str, delivery_seconds: float = DELIVERY_SECONDS
    ) -> None:
        self.counts = Counts()
        self._client, self._contract, self._source = client, contract, source
        self._delivery_seconds = delivery_seconds
        version = contract.topic.rsplit(".", 1)[-1]
        self._headers: Headers = [("source", source.encode()), ("contract_version", version.encode()), ("run_id", run_id.encode())]
        self._shape = contract.shape
        self._first_failure = ""
        self._first_invalid = ""

    def __enter__(self) -> "KafkaWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.flush()
        else:
            self._client.flush(self._delivery_seconds)

    def send(self, record: Mapping[str, Value]) -> bool:
        """Queue one record; a record that is none of the contract's is counted and described instead, see `raise_invalid`.

        Returns:
            Whether it was queued.

        Raises:
            DeliveryError: the queue stayed full, or an earlier message failed.
        """
        if self._contract.violations(record):
            broken = self._shape.violations(record)
            if broken:
                self._note_invalid(broken)
                return False
            self.counts.out_of_range += 1
            if self.counts.out_of_range <= DESCRIBED:
                log.warning(
                    "out of range, published for the rejects", topic=self._contract.topic, fields=_fields(self._contract.violations(record))
                )
        self.send_bytes(self._contract.encode_key(record), self._contract.encode(record))
        return True

    def send_bytes(self, key: bytes | None, value: bytes | None, wire_version: int | Literal["current"] | None = "current") -> None:
        """Queue a message as it is, whatever it holds.

        Args:
            key: the Kafka key.
            value: the message.
            wire_version: of the schema that the value was written by; `current` is the contract's, None says nothing of it, as a message
                that is sent again and said nothing.

        Raises:
            DeliveryError: as for `send`.
        """
        version = self._contract.wire_version if wire_version == "current" else wire_version
        headers: Headers = [*self._headers, (WIRE_VERSION_HEADER, b"%d" % version)] if version is not None else self._headers
        deadline = time.monotonic() + self._delivery_seconds
        while True:
            try:
                self._client.produce(self._contract.topic, value, key, on_delivery=self._on_delivery, headers=headers)
                break
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise self._delivery_error("the queue is full and nothing leaves it") from error
                self._client.poll(0.1)
            except KafkaException as error:
                raise self._delivery_error(_text(error)) from error
        self.counts.sent += 1
        self._client.poll(0)

    def flush(self) -> None:
        """Wait until every message was reported.

        Raises:
            DeliveryError: for messages that were reported as failed or not at all.
        """
        missing = self._client.flush(self._delivery_seconds)
        if missing or self.counts.failed or self.counts.delivered < self.counts.sent:
            self._client.purge()
            raise self._delivery_error(self._first_failure or f"no report within {self._delivery_seconds:g} s")

    def raise_invalid(self) -> None:
        """Fail when there were records that could not be sent; call it after everything else was.

        Raises:
            InvalidRecordsError: with their number and the first one's faults.
        """
        if self.counts.invalid:
            raise InvalidRecordsError(
                f"{self.counts.invalid} record(s) of {self._source} are none of {self._contract.topic} and were not sent; "
                f"the first: {self._first_invalid}"
            )

    def _note_invalid(self, broken: list[str]) -> None:
        self.counts.invalid += 1
        self._first_invalid = self._first_invalid or "; ".join(broken)
        if self.counts.invalid <= DESCRIBED:
            log.error("not a record of the contract", topic=self._contract.topic, fields=_fields(broken))

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.counts.delivered += 1
            metrics.PRODUCER_MESSAGES.labels(source=self._source).inc()
            return
        self.counts.failed += 1
        metrics.PRODUCER_DELIVERY_FAILURES.labels(source=self._source).inc()
        self._first_failure = self._first_failure or error.str()

    def _delivery_error(self, reason: str) -> DeliveryError:
        lost = self.counts.sent - self.counts.delivered
        return DeliveryError(
            f"{lost} of {self.counts.sent} message(s) to {self._contract.topic} were not delivered: {reason}. "
            "No cursor moved past them; the next run sends them again."
        )


def _fields(violations: list[str]) -> list[str]:
    # Names only: the contents of rows stay out of the log.
    return [violation.removeprefix("unknown field ").split(" ", 1)[0] for violation in violations]


def _text(error: KafkaException) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
