"""Up to which instant has an entity been published?

One small file per source, HOME/state/<source>.cursor.json, maps each entity's key to the instant that the source returned with its records,
such as the newest measured hour. A cursor advances only after Kafka has reported the delivery, so a crash repeats records and loses none.
The next run starts at the cursor, less the days that the source still revises, so the gap of an outage is filled without manual work.
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
    """The cursor file exists but cannot be read. Guessing its content would leave a gap or publish years again."""

    def __init__(self, path: Path, problem: str) -> None:
        next_step = "Repair or remove it: without it the next poll is like the first one, and --since fetches earlier days"
        super().__init__(f"{path}: {problem}. {next_step}.")
        self.path = path


class Cursors:
    """The cursors of one source. Several processes may advance them at the same time."""

    def __init__(self, folder: Path, source: str) -> None:
        self.path = folder / f"{source}.cursor.json"

    def read(self) -> dict[str, datetime]:
        """Return {entity: the instant, UTC, up to which it has been published}, without entities that were never published.

        Raises:
            BadCursorError: the file cannot be read, or is not in the form that `advance` writes.
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
        """Advance one entity's cursor, in whole seconds; an earlier instant changes nothing.

        The file is replaced atomically, so a crash leaves the old or the new content.
        """
        with locked(self.path):
            cursors = self.read()
            if entity in cursors and cursors[entity] >= instant:
                return
            cursors[entity] = instant
            text = json.dumps({key: f"{at:%Y-%m-%dT%H:%M:%SZ}" for key, at in sorted(cursors.items())}, indent=1) + "\n"
            replace_file(self.path, text)


def first_day_to_ask(cursor: datetime | None, today: date, past_days: int) -> date:
    """Return the first UTC day that a poll requests of an entity: `past_days` before its cursor, or before today without a cursor."""
    return min(cursor.date() if cursor else today, today) - timedelta(days=past_days)


def by_first_day(
    entities: Iterable[Entity], key_of: Callable[[Entity], str], cursors: Mapping[str, datetime], today: date, past_days: int
) -> Iterator[tuple[date, list[Entity]]]:
    """Group entities by the first UTC day that a poll requests of them; the earliest day comes first."""

    def first_day(entity: Entity) -> date:
        return first_day_to_ask(cursors.get(key_of(entity)), today, past_days)

    for day, group in groupby(sorted(entities, key=first_day), key=first_day):
        yield day, list(group)


def _to_instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an instant")
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return instant.astimezone(UTC)
