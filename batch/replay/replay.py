"""How are bronze's messages published to Kafka again? Each distinct message once, in the order in which they first arrived.

Bronze gains a row per message, since it stores all that arrives. Silver and gold end as they were, however often this is repeated, because
the newest version of a key is determined by a message's content, not by its offset.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from batch.consistent_snapshots import Heads
from lakehouse.contract import Contract
from lakehouse.days import Days
from lakehouse.domain import Source
from lakehouse.tables.schema import quote_name
from producers.kafka_writer import KafkaWriter

BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message: its key, its bytes, when it first arrived, and the version of the schema it was written with, None where it has none."""

    key: bytes | None
    value: bytes | None
    at: datetime | None
    wire_version: int | None = None


class Messages:
    """The messages of a source's bronze within some days of event time.

    Args:
        heads: the domain's tables.
        source: the source.
        days: UTC days of the event time, both included; None for all messages, including those without an event time. Must be None for a
            source without an event time.
    """

    def __init__(self, heads: Heads, source: Source, days: Days) -> None:
        contract = source.contract
        names = {column.name: column.type for column in source.bronze.columns}
        # A backfilled row arrived when it was retrieved, if its version is a time.
        arrived = f"coalesce(kafka_ts, {contract.version})" if names[contract.version] == "TIMESTAMP" else "kafka_ts"
        entity = ", ".join(quote_name(name) for name in contract.entity)
        event_time = contract.event_time
        within = "" if days is None else f"WHERE {event_time}::DATE BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'"
        columns = ("value", "wire_version", "kafka_ts", contract.version, *contract.entity, *([event_time] if event_time else []))
        self._contract = contract
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.register("bronze", heads.bronze_files(source, dict.fromkeys(columns), only_applied=False))
        self._connection.execute(
            f"CREATE TEMP TABLE messages AS SELECT value, wire_version, {entity}, min({arrived}) AS arrived "
            f"FROM bronze {within} GROUP BY value, wire_version, {entity}"
        )

    def __len__(self) -> int:
        """Return the number of messages."""
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchall()[0][0])

    def __iter__(self) -> Iterator[Arrived]:
        """Yield the messages in the order in which they first arrived."""
        entity = self._contract.entity
        columns = ", ".join(quote_name(name) for name in entity)
        ordered = self._connection.sql(f"SELECT value, wire_version, arrived, {columns} FROM messages ORDER BY arrived NULLS FIRST, value")
        for batch in ordered.to_arrow_reader(BATCH_ROWS):
            for value, wire_version, arrived, *names in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Arrived(_key(self._contract, names), value, arrived, wire_version)

    def close(self) -> None:
        """Close the connection with the messages."""
        self._connection.close()


def replay(
    messages: Messages,
    writer: KafkaWriter,
    speed: float | None,
    sleep: Callable[[float], object],
    is_stopping: Callable[[], bool],
    on_step: Callable[[], None] = lambda: None,
) -> int:
    """Publish messages.

    Args:
        messages: in their order.
        writer: of the domain's topic.
        speed: None publishes as fast as Kafka accepts; else with the pauses between the messages' arrivals, divided by the speed.
        sleep: waits for a number of seconds.
        is_stopping: checked between two messages.
        on_step: called after each message, for a progress bar.

    Returns:
        The number of published messages, which is lower than their number if it was stopped.
    """
    sent, before = 0, None
    for one in messages:
        if is_stopping():
            break
        if speed is not None and before is not None and one.at is not None and one.at > before:
            sleep((one.at - before).total_seconds() / speed)
        before = one.at or before
        writer.send_bytes(one.key, one.value, one.wire_version)
        sent += 1
        on_step()
    writer.flush()
    return sent


def _key(contract: Contract, names: Sequence[object]) -> bytes | None:
    """Return the key that the producer would use; None where the message does not name its entity."""
    if any(name is None for name in names):
        return None
    return contract.encode_key({name: str(value) for name, value in zip(contract.entity, names, strict=True)})
