"""How does what bronze holds go through Kafka again? Every message that differs once, in the order in which they first arrived.

Bronze gains a row per message: it holds all that arrived. Silver and gold end as they were, however often, because the newest version
of a key wins by what a message says, not by where it lies.
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
    """A message: its key, its bytes, when it first arrived, and the version of the schema it was written by, None where it does not say."""

    key: bytes | None
    value: bytes | None
    at: datetime | None
    wire_version: int | None = None


class Messages:
    """The messages of a source's bronze that lie in some days of event time.

    Args:
        heads: the domain's tables.
        source: which source.
        days: UTC days of the event time, both included; None for all, and then those without an event time too. A source without an
            event time has no days.
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
        """How many there are."""
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchall()[0][0])

    def __iter__(self) -> Iterator[Arrived]:
        """Give them in the order in which they first arrived."""
        entity = self._contract.entity
        columns = ", ".join(quote_name(name) for name in entity)
        found = self._connection.sql(f"SELECT value, wire_version, arrived, {columns} FROM messages ORDER BY arrived NULLS FIRST, value")
        for batch in found.to_arrow_reader(BATCH_ROWS):
            for value, wire_version, arrived, *names in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Arrived(_key(self._contract, names), value, arrived, wire_version)

    def close(self) -> None:
        """Let go of them."""
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
        speed: None as fast as Kafka takes them; else with the pauses that were between their arrivals, divided by it.
        sleep: waits so many seconds.
        is_stopping: asked between two messages.
        on_step: called after each, for a progress bar.

    Returns:
        How many were published; fewer than there are where it was told to stop.
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
    """Give the key that the producer would give; none where the message did not name its entity."""
    if any(name is None for name in names):
        return None
    return contract.encode_key({name: str(value) for name, value in zip(contract.entity, names, strict=True)})
