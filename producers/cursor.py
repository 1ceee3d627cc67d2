"""Up to which instant has an entity been published?

One small file per source, HOME/state/<source>.cursor.json: the entity's key -> the instant that the source gave with its records, such as
the newest measured hour, once Kafka has reported their delivery. It moves after the delivery reports and never back, so a crash repeats
records and loses none; the next run begins where it stands, less the days that the source still revises, so an outage closes itself.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from lakehouse.errors import Fatal, ProducerError
from lakehouse.storage.files import locked, replace_file

Entity = TypeVar("Entity")


class BadCursorError(ProducerError, Fatal):
    """The cursor's file is there but cannot be read; guessing would leave a hole or publish years again."""

    def __init__(self, path: Path, problem: str) -> None:
        way_out = "Repair it, or remove it: everything then begins anew with its first poll, and --since fetches the time before"
        super().__init__(f"{path}: {problem}. {way_out}.")
        self.path = path


class Cursors:
    """The cursors of one source. Several processes may move them at a time."""

    def __init__(self, folder: Path, source: str) -> None:
        self.path = folder / f"{source}.cursor.json"

    def read(self) -> dict[str, datetime]:
        """Give by entity up to which instant, UTC, it has been published; an entity that was not yet is absent.

        Raises:
            BadCursorError: for a file that is not what `advance` writes.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise BadCursorError(self.path, f"cannot be read ({error})") from error
        try:
            return {str(key): _to_instant(value) for key, value in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise BadCursorError(self.path, f"not a cursor file ({error})") from error

    def advance(self, entity: str, instant: datetime) -> None:
        """Move one entity's cursor forward, to the whole second; an earlier instant changes nothing.

        The file is replaced in one step, so that a crash leaves the old one or the new one.
        """
        with locked(self.path):
            cursors = self.read()
            if entity in cursors and cursors[entity] >= instant:
                return
            cursors[entity] = instant
            text = json.dumps({key: f"{at:%Y-%m-%dT%H:%M:%SZ}" for key, at in sorted(cursors.items())}, indent=1) + "\n"
            replace_file(self.path, text)


def first_day_to_ask(cursor: datetime | None, today: date, past_days: int) -> date:
    """Say from which UTC day on an entity is asked for: some days before its cursor, or before today where it has none."""
    return min(cursor.date() if cursor else today, today) - timedelta(days=past_days)


def by_first_day(
    entities: Iterable[Entity], key_of: Callable[[Entity], str], cursors: Mapping[str, datetime], today: date, past_days: int
) -> Iterator[tuple[date, list[Entity]]]:
    """Group entities by the UTC day from which on a poll asks for them; the earliest day comes first."""

    def first_day(entity: Entity) -> date:
        return first_day_to_ask(cursors.get(key_of(entity)), today, past_days)

    for day, group in groupby(sorted(entities, key=first_day), key=first_day):
        yield day, list(group)


def _to_instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no instant")
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"{value!r} is without a zone")
    return instant.astimezone(UTC)
