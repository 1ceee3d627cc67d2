"""Up to which hour has a place been published?

One small file per source, HOME/state/<source>.cursor.json: `location_key` -> the newest measured hour whose delivery Kafka has
reported. It moves after the delivery reports and never back, so a crash repeats hours and loses none; the next run begins
where it stands, less the days that the source still revises, so an outage closes itself.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from lakehouse.errors import Fatal, ProducerError
from lakehouse.files import locked, replace_file


class BadCursorError(ProducerError, Fatal):
    """The cursor's file is there but cannot be read; guessing would leave a hole or publish years again."""

    def __init__(self, path: Path, problem: str) -> None:
        way_out = "Repair it, or remove it: every place then begins anew with its first poll, and --since fetches the time before"
        super().__init__(f"{path}: {problem}. {way_out}.")
        self.path = path


class Cursors:
    """The cursors of one source. Several processes may move them at a time."""

    def __init__(self, folder: Path, source: str) -> None:
        self.path = folder / f"{source}.cursor.json"

    def read(self) -> dict[str, datetime]:
        """Give every place's newest published hour, UTC; a place that has none is absent.

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

    def advance(self, location_key: str, hour: datetime) -> None:
        """Move one place's cursor forward to an hour that was delivered; an earlier hour changes nothing.

        The file is replaced in one step, so that a crash leaves the old one or the new one.
        """
        with locked(self.path):
            cursors = self.read()
            if location_key in cursors and cursors[location_key] >= hour:
                return
            cursors[location_key] = hour
            text = json.dumps({key: f"{at:%Y-%m-%dT%H:%M:%SZ}" for key, at in sorted(cursors.items())}, indent=1) + "\n"
            replace_file(self.path, text)


def first_day_to_ask(cursor: datetime | None, today: date, past_days: int) -> date:
    """Say from which UTC day on a place is asked for: some days before its cursor, or before today where it has none."""
    return min(cursor.date() if cursor else today, today) - timedelta(days=past_days)


def _to_instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no instant")
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"{value!r} is without a zone")
    return instant.astimezone(UTC)
