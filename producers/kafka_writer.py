"""How does a record get into Kafka, and how do we know that it did?

The producer is idempotent and waits for acknowledgement by all replicas; the contract's entity is the key. Delivery reports are counted:
if a message that was sent has not been reported as delivered, `flush` raises an error.
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
# Only this many records of each kind of fault are logged: a line per record would flood the log.
DESCRIBED = 5

Headers = list[tuple[str, str | bytes | None]]

log = structlog.get_logger()


class DeliveryError(ProducerError, Retryable):
    """Messages were sent to Kafka, but not all of them were reported as delivered."""


class InvalidRecordsError(ProducerError, Fatal):
    """The source returned records that do not match the contract; they were not sent."""


class KafkaClient(Protocol):
    """The methods of confluent-kafka's Producer that the writer uses; tests pass their own client."""

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Queue a message; raises BufferError when the queue is full."""

    def poll(self, timeout: float) -> int:
        """Serve delivery reports."""

    def flush(self, timeout: float) -> int:
        """Wait for all delivery reports; return the number still missing."""

    def purge(self) -> None:
        """Drop the queued messages."""


@dataclass(slots=True)
class Counts:
    """The records of one writer, counted by what became of them."""

    sent: int = 0
    delivered: int = 0
    failed: int = 0
    invalid: int = 0
    out_of_range: int = 0


def connect(bootstrap: str, run_id: str) -> Producer:
    """Create an idempotent producer client; it connects on first use.

    Raises:
        NoKafkaAddressError, BadBootstrapError: no address is known, or the addresses cannot be parsed.
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
            # The Java clients' partitioner, so that other producers of the topic write a key to the same partition.
            "partitioner": "murmur2_random",
            # Slightly less than a flush waits, so that it receives the reports of failed messages.
            "message.timeout.ms": int(DELIVERY_SECONDS * 900),
            # Otherwise librdkafka writes a line to stderr for each failed connection; the relevant ones are raised as errors.
            "log_level": 2,
        }
    )


class KafkaWriter:
    """Sends records of one contract. Leaving the `with` block flushes, also after an exception, which is then the one raised.

    Args:
        client: from `connect`.
        contract: of the records.
        source: value of the header `source` and label of the metrics.
        run_id: value of the header `run_id`.
        delivery_seconds: how long to wait for delivery reports before the remaining messages count as lost.
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
        # Found once: looking a label up costs more than counting, and there is a report for every message.
        self._delivered = metrics.PRODUCER_MESSAGES.labels(source=source)
        self._failed = metrics.PRODUCER_DELIVERY_FAILURES.labels(source=source)
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
        """Queue one record. A record that does not match the contract is counted and logged instead, see `raise_invalid`.

        A record of the right shape with a value out of range is queued too, and goes to the rejects later.

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
        """Queue a message without checking its content.

        Args:
            key: the Kafka key.
            value: the message.
            wire_version: version of the schema that the value was written with; `current` is the contract's. None omits the header, for a
                message that is sent again and had none.

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
                    raise self._delivery_error("the queue stayed full") from error
                self._client.poll(0.1)
            except KafkaException as error:
                raise self._delivery_error(_text(error)) from error
        self.counts.sent += 1
        self._client.poll(0)

    def flush(self) -> None:
        """Wait until Kafka has reported on every message.

        Raises:
            DeliveryError: messages were reported as failed, or not at all.
        """
        missing = self._client.flush(self._delivery_seconds)
        if missing or self.counts.failed or self.counts.delivered < self.counts.sent:
            self._client.purge()
            raise self._delivery_error(self._first_failure or f"no report within {self._delivery_seconds:g} s")

    def raise_invalid(self) -> None:
        """Raise an error if there were invalid records; call it after all other records were sent.

        Raises:
            InvalidRecordsError: with the number of invalid records and the faults of the first.
        """
        if self.counts.invalid:
            raise InvalidRecordsError(
                f"{self.counts.invalid} record(s) of {self._source} do not match the contract of {self._contract.topic} and were not sent; "
                f"the first: {self._first_invalid}"
            )

    def _note_invalid(self, broken: list[str]) -> None:
        self.counts.invalid += 1
        self._first_invalid = self._first_invalid or "; ".join(broken)
        if self.counts.invalid <= DESCRIBED:
            log.error("record does not match the contract", topic=self._contract.topic, fields=_fields(broken))

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.counts.delivered += 1
            self._delivered.inc()
            return
        self.counts.failed += 1
        self._failed.inc()
        self._first_failure = self._first_failure or error.str()

    def _delivery_error(self, reason: str) -> DeliveryError:
        lost = self.counts.sent - self.counts.delivered
        return DeliveryError(
            f"{lost} of {self.counts.sent} message(s) to {self._contract.topic} were not delivered: {reason}. "
            "No cursor advanced past them; the next run sends them again."
        )


def _fields(violations: list[str]) -> list[str]:
    # Names only: row values must not appear in the log.
    return [violation.removeprefix("unknown field ").split(" ", 1)[0] for violation in violations]


def _text(error: KafkaException) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
