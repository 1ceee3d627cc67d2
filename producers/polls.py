"""How did the last polls of a source end? `weir status` and the next poll read it from HOME/state/<source>.polls.json.

The file holds when a poll last succeeded, which entities failed and since when, and when upstream last changed. Losing it loses only these
facts; which records were published is stored elsewhere (`published.py`, `cursor.py`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from lakehouse.storage.files import locked, replace_file
from monitoring import metrics
from producers.source import Words
from producers.upstream import Timetable, changed_at

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Failing:
    """An entity whose records cannot be fetched: since which poll, and why."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class PollFacts:
    """The known facts about the polls of one source.

    Attributes:
        every: the interval of the program that polls repeatedly; None where there is no such program.
        last_poll: when a poll last ended, successful or not.
        last_success: when a poll last delivered all it fetched, from at least one entity.
        upstream_changed: when upstream last changed values that had been published; None before the first change is seen.
        problem: why the last poll failed as a whole; empty when it did not.
        failing: by key, the entities whose last poll failed.
    """

    every: timedelta | None = None
    last_poll: datetime | None = None
    last_success: datetime | None = None
    upstream_changed: datetime | None = None
    problem: str = ""
    failing: Mapping[str, Failing] = field(default_factory=dict)


class Polls:
    """The facts about one source's polls. Several processes may note polls at the same time.

    Args:
        folder: HOME/state.
        source: the source's name, used for the file and as label of metrics.
        words: what the source's entities are called; needed for `note`.
        timetable: of the source; needed for `note`.
    """

    def __init__(self, folder: Path, source: str, words: Words | None = None, timetable: Timetable | None = None) -> None:
        self.path = folder / f"{source}.polls.json"
        self._source, self._words, self._timetable = source, words or Words(), timetable

    def read(self) -> PollFacts:
        """Read the facts; return empty ones where the file is missing, or cannot be read, which is logged."""
        try:
            return _from_json(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return PollFacts()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the results of the last polls cannot be read: starting without them", path=str(self.path), reason=str(error))
            return PollFacts()

    def note(
        self, now: datetime, every: timedelta | None, polled: Collection[str], failures: Mapping[str, Exception], has_changed: bool
    ) -> PollFacts:
        """Note a poll that was completed.

        Args:
            now: the current time.
            every: see `PollFacts`; None keeps the noted interval.
            polled: keys of the entities that it requested; the facts about other entities stay.
            failures: those of them whose records could not be fetched.
            has_changed: whether upstream changed a value that had been published.
        """
        with locked(self.path):
            before = self.read()
            failing = {key: one for key, one in before.failing.items() if key not in polled}
            for key, error in failures.items():
                since = before.failing[key].since if key in before.failing else now
                failing[key] = Failing(since, str(error))
            is_success = len(failures) < len(polled)
            facts = PollFacts(
                every=every or before.every,
                last_poll=now,
                last_success=now if is_success else before.last_success,
                upstream_changed=changed_at(before.last_success, now, self._timetable) if has_changed else before.upstream_changed,
                problem="" if is_success else f"no {self._words.entity} could be fetched",
                failing=failing,
            )
            self._write(facts)
        metrics.PRODUCER_FAILING_PLACES.labels(source=self._source).set(len(failing))
        return facts

    def note_failed(self, now: datetime, every: timedelta | None, reason: str) -> PollFacts:
        """Note a poll that failed as a whole: no Kafka, no budget, no delivery."""
        with locked(self.path):
            before = self.read()
            facts = replace(before, every=every or before.every, last_poll=now, problem=reason)
            self._write(facts)
        return facts

    def _write(self, facts: PollFacts) -> None:
        known = {
            "every_minutes": facts.every / timedelta(minutes=1) if facts.every else None,
            "last_poll": _iso(facts.last_poll),
            "last_success": _iso(facts.last_success),
            "upstream_changed": _iso(facts.upstream_changed),
            "problem": facts.problem,
            "failing": {key: {"since": _iso(one.since), "reason": one.reason} for key, one in sorted(facts.failing.items())},
        }
        replace_file(self.path, json.dumps(known, ensure_ascii=False, indent=1) + "\n")


def _from_json(known: dict[str, object]) -> PollFacts:
    every, failing = known["every_minutes"], known["failing"]
    if not isinstance(failing, dict):
        raise ValueError("`failing` is not an object")
    return PollFacts(
        every=timedelta(minutes=float(str(every))) if every is not None else None,
        last_poll=_instant(known["last_poll"]),
        last_success=_instant(known["last_success"]),
        upstream_changed=_instant(known["upstream_changed"]),
        problem=str(known["problem"]),
        failing={str(key): Failing(datetime.fromisoformat(one["since"]), str(one["reason"])) for key, one in failing.items()},
    )


def _instant(value: object) -> datetime | None:
    if value is None:
        return None
    instant = datetime.fromisoformat(str(value))
    if instant.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return instant


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
