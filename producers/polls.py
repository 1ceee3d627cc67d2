"""How did the last polls of a source end? What `weir status` and the next poll know of them: HOME/state/<source>.polls.json.

When a poll last succeeded, what it could not get and since when, and when upstream last changed. A lost file costs this knowledge
only; which records were published stands elsewhere (`published.py`, `cursor.py`).
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
    """An entity whose records cannot be had: since which poll, and why."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class PollFacts:
    """What is known of the polls of one source.

    Attributes:
        every: the interval of the program that polls again and again; None where nothing does.
        last_poll: when one last ended, however.
        last_success: when one last delivered all it got, from at least one entity.
        upstream_changed: when published values last came with others; None while that was not seen.
        problem: why the last poll failed as a whole; empty when it did not.
        failing: by key, entities that their last poll could not get.
    """

    every: timedelta | None = None
    last_poll: datetime | None = None
    last_success: datetime | None = None
    upstream_changed: datetime | None = None
    problem: str = ""
    failing: Mapping[str, Failing] = field(default_factory=dict)


class Polls:
    """The facts of one source. Several processes may note theirs at a time.

    Args:
        folder: HOME/state.
        source: names the file, and the label of metrics.
        words: what the source calls its entities; needed to note.
        timetable: of the source; needed to note.
    """

    def __init__(self, folder: Path, source: str, words: Words | None = None, timetable: Timetable | None = None) -> None:
        self.path = folder / f"{source}.polls.json"
        self._source, self._words, self._timetable = source, words or Words(), timetable

    def read(self) -> PollFacts:
        """Give what is known; nothing where the file is missing, or cannot be read, which is logged."""
        try:
            return _from_json(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return PollFacts()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("how the last polls ended cannot be read: beginning anew", path=str(self.path), reason=str(error))
            return PollFacts()

    def note(
        self, now: datetime, every: timedelta | None, polled: Collection[str], failures: Mapping[str, Exception], has_changed: bool
    ) -> PollFacts:
        """Note a poll that came to its end.

        Args:
            now: the present.
            every: see `PollFacts`; None leaves what was noted.
            polled: keys of the entities it asked for; what is known of others stays.
            failures: of them, those whose records could not be had.
            has_changed: whether a published value came with another.
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
                problem="" if is_success else f"no {self._words.entity} could be had",
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
        raise ValueError("failing is no object")
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
        raise ValueError(f"{value!r} is without a zone")
    return instant


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
