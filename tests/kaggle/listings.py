"""Polls of a small dataset list, made up, and what the real poller sends of them when it is interrupted and killed anywhere."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from lakehouse.contract import Value
from producers.call_errors import UnavailableError
from producers.clock import Clock
from producers.history import Records
from producers.published import Published
from producers.sources.kaggle.listing import DatasetList, Page, StaleTokenError
from producers.sources.kaggle.listing_polls import ListPolls, TheList
from producers.sources.kaggle.listing_state import ListState
from producers.sources.kaggle.source import KAGGLE_LIST

BEGIN = datetime(2025, 7, 4, 1, 16, 12, tzinfo=UTC)
Row = dict[str, Value]
# (topic's short name, message), as the other builders of Kaggle's messages give them.
Said = tuple[str, dict[str, Value]]


def listed(ref: str | None, title: str | None = "A title", **more: Value) -> Row:
    """Build a row of the list."""
    empty: Row = dict.fromkeys(("subtitle", "listed_id", "license_name", "updated_ts"))
    return {**empty, "ref": ref, "title": title, "url": f"https://www.kaggle.com/datasets/{ref}", **more}


def seen(ref: str, poll: datetime, title: str | None = "A title", **more: Value) -> Said:
    """Build the message that a poll saw a dataset first, or changed."""
    same: Row = {"poll_ts": poll, "seen_ts": poll + timedelta(seconds=2), "is_absent": False}
    return "dataset_list", {**listed(ref, title), **same, **more}


def missed(ref: str, poll: datetime, polls: int = 1) -> Said:
    """Build the message that a complete poll did not find a dataset."""
    return "dataset_list", {
        "ref": ref, "poll_ts": poll, "seen_ts": poll + timedelta(seconds=9), "is_absent": True, "absent_polls": polls,
    }  # fmt: skip


class Killed(Exception):
    """The process ends here."""


@dataclass
class MadeUpList:
    """A list in pages, in place of Kaggle's, and its poller with a home of its own.

    Attributes:
        folder: the state folder of the home.
        rows: the list as it is now.
        now: the time; each page takes a second.
        said: the messages that reached Kafka, in their order.
        chance: of kills, of errors, and of a list that moves below a poll.
        trouble: how likely each is at each step.
        move: changes the list before a page is given.
    """

    folder: Path
    rows: list[Row] = field(default_factory=list)
    now: datetime = BEGIN
    said: list[Said] = field(default_factory=list)
    chance: random.Random = field(default_factory=random.Random)
    trouble: float = 0.0
    page_rows: int = 3
    move: Callable[[], None] = lambda: None

    def page(self, token: str, number: int) -> Page:
        """Give a page, as `DatasetList.page` does."""
        self.now += timedelta(seconds=1)
        if self._happens():
            raise UnavailableError("no answer")
        if token and self._happens():
            raise StaleTokenError("too old")
        self.move()
        start = int(token or 0)
        following = str(start + self.page_rows) if start + self.page_rows < len(self.rows) else ""
        return Page([dict(row) for row in self.rows[start : start + self.page_rows]], following, self.now)

    def poll(self) -> bool:
        """Poll once as the publisher does; return whether the poll came to its end."""
        clock = Clock(lambda: self.now, lambda _: None)
        polls = ListPolls(cast(DatasetList, self), ListState(self.folder), clock)
        memory = Published(self.folder, "kaggle", KAGGLE_LIST.contract, "topic", KAGGLE_LIST.identity)
        try:
            for request in polls.poll([TheList("hottest")], {}):
                for answered in request.fetch():
                    assert isinstance(answered, Records)
                    self._send(memory, answered.records)
                if request.notice is not None:
                    self.said.append(("dataset_list_polls", dict(request.notice())))
                    self._may_die()
                if request.done is not None:
                    request.done()
                self._may_die()
        except (UnavailableError, StaleTokenError, Killed):
            return False
        finally:
            self.now += timedelta(minutes=self.chance.choice((1, 15, 90)))
        return True

    def _send(self, memory: Published, records: Sequence[Any]) -> None:
        kinds = memory.judge(records)
        chosen = [record for record, kind in zip(records, kinds, strict=True) if kind != "unchanged"]
        memory.doubt(chosen)
        self._may_die()
        for record in chosen:
            self.said.append(("dataset_list", dict(record)))
            self._may_die()
        memory.remember(chosen)
        self._may_die()

    def _may_die(self) -> None:
        if self.trouble and self.chance.random() < self.trouble / 4:
            raise Killed

    def _happens(self) -> bool:
        return self.trouble > 0 and self.chance.random() < self.trouble


def some_polls(chance: random.Random, folder: Path, count: int = 8, trouble: float = 0.1) -> MadeUpList:
    """Poll a list that changes all the time, with errors and kills; give the list with what was said."""
    refs = [f"{owner}/{slug}" for owner in ("Ann", "bob", "o-2") for slug in ("data", "cats-v2")] + ["no-slash", "", "a/b/c", "sp ace/x"]
    there = {ref: listed(ref) for ref in refs if chance.random() < 0.7} or {refs[0]: listed(refs[0])}
    polled = MadeUpList(folder, chance=chance, trouble=trouble)

    def move() -> None:
        for ref in refs:
            if chance.random() < 0.12:
                there.pop(ref, None)
            if chance.random() < 0.12:
                there[ref] = listed(ref, chance.choice(("A title", "Another", "", None)), subtitle=chance.choice((None, "more")))
        polled.rows = list(there.values()) or [listed(refs[0])]
        chance.shuffle(polled.rows)

    move()
    polled.move = lambda: move() if chance.random() < 0.3 else None
    for _ in range(count):
        polled.poll()
        move()
    return polled
