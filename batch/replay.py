"""How does what bronze holds go through Kafka again? Every message that differs once, in the order in which they first arrived.

Bronze gains a row per message: it holds all that arrived. Silver and gold end as they were, however often, because the newest version
of a key wins by what a message says, not by where it lies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from batch.heads import Heads
from lakehouse.days import Days
from lakehouse.domain import Domain
from lakehouse.schema import quote_name
from producers.kafka_writer import KafkaWriter

BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message: its key, its bytes, and when it first arrived."""

    key: bytes | None
    value: bytes | None
    at: datetime | None


class Messages:
    """The messages of a domain's bronze that lie in some days of event time.

    Args:
        heads: the domain's tables.
        days: UTC days of the event time, both included; None for all, and then those without an event time too.
    """

    def __init__(self, heads: Heads, days: Days) -> None:
        domain = heads.domain
        # A backfilled row arrived when it was retrieved.
        arrived = f"coalesce(kafka_ts, {domain.contract.version})"
        entity = ", ".join(quote_name(name) for name in domain.contract.entity)
        within = "" if days is None else f"WHERE date_utc BETWEEN DATE '{days[0]}' AND DATE '{days[1]}'"
        columns = ("value", "kafka_ts", "date_utc", domain.contract.version, *domain.contract.entity)
        self._domain = domain
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.register("bronze", heads.bronze_files(dict.fromkeys(columns), only_applied=False))
        self._connection.execute(
            f"CREATE TEMP TABLE messages AS SELECT value, {entity}, min({arrived}) AS arrived FROM bronze {within} GROUP BY value, {entity}"
        )

    def __len__(self) -> int:
        """How many there are."""
        return int(self._connection.execute("SELECT count(*) FROM messages").fetchall()[0][0])

    def __iter__(self) -> Iterator[Arrived]:
        """Give them in the order in which they first arrived."""
        entity = self._domain.contract.entity
        columns = ", ".join(quote_name(name) for name in entity)
        found = self._connection.sql(f"SELECT value, arrived, {columns} FROM messages ORDER BY arrived NULLS FIRST, value")
        for batch in found.to_arrow_reader(BATCH_ROWS):
            for value, arrived, *names in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Arrived(_key(self._domain, names), value, arrived)

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
        writer.send_bytes(one.key, one.value)
        sent += 1
        on_step()
    writer.flush()
    return sent


def _key(domain: Domain, names: Sequence[object]) -> bytes | None:
    """Give the key that the producer would give; none where the message did not name its entity."""
    if any(name is None for name in names):
        return None
    return domain.contract.encode_key({name: str(value) for name, value in zip(domain.contract.entity, names, strict=True)})
