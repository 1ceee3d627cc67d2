"""What does a poll of the dataset list request? Page after page, then a last request that tells what a complete poll did not find.

A poll that was interrupted, by an error or a kill, goes on at its page. One that began too long ago, or whose token Kaggle no longer takes,
is given up: its notice says that it is not complete, so it has shown what is there and nothing of what is absent. Then a poll begins anew.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from lakehouse.contract import Value
from lakehouse.machine.proxies import is_loopback
from lakehouse.settings import Settings
from producers.budget import Budget, Lane, LimitSpan
from producers.call_errors import BrokenAnswerError
from producers.clock import Clock
from producers.history import Records
from producers.source import Request
from producers.sources.kaggle.listing import PAGE_SIZE, DatasetList, Page, StaleTokenError
from producers.sources.kaggle.listing_state import TOLD, ListState, Unfinished

LIST_KEY = "datasets"
# Pages of a poll that is longer belong to different moments, and what moved between them may be missed.
RESUMED_WITHIN = timedelta(hours=1)
# A list of two million datasets. More pages than that come from a server that never ends its list.
MOST_PAGES = 10_000
# A poll of the ten thousand datasets that Kaggle's list shows.
PAGES_OF_A_POLL = 10_000 // PAGE_SIZE
CALLS_PER_MINUTE = 60

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TheList:
    """The polled list: the order in which Kaggle gives it."""

    order: str

    @property
    def name(self) -> str:
        """Its name in notices."""
        return f"{LIST_KEY}-{self.order}"


class ListPolls:
    """Polls the dataset list.

    Args:
        api: the client; the caller closes it.
        state: how far the poll has come.
        clock: returns the current time.
    """

    def __init__(self, api: DatasetList, state: ListState, clock: Clock) -> None:
        self._api, self._state, self._clock = api, state, clock
        self._page: Page | None = None
        self._is_stale = False

    def poll(self, entities: Sequence[TheList], cursors: Mapping[str, datetime]) -> Iterator[Request]:
        """Request the pages that are left of the poll, and then what it did not find."""
        for wanted in entities:
            yield from self._poll(wanted.name)

    def _poll(self, name: str) -> Iterator[Request]:
        begun = self._state.unfinished()
        if begun is not None:
            since = self._clock.now() - begun.poll_ts
            if begun.list_name != name or since > RESUMED_WITHIN:
                yield self._given_up(
                    begun, f"it began {since.total_seconds() / 60:.0f} min ago" if begun.list_name == name else "another order"
                )
                begun = None
            else:
                log.info("continuing an interrupted poll", source="kaggle", page=begun.pages + 1, poll_ts=begun.poll_ts.isoformat())
        is_resumed = begun is not None
        begun = begun or self._state.begin(name, self._clock.now())
        while begun.read_ts is None:
            if begun.pages >= MOST_PAGES:
                raise BrokenAnswerError(f"Kaggle's dataset list has not ended after {MOST_PAGES} pages.")
            self._is_stale = False
            yield Request(partial(self._fetch, begun, is_resumed), done=partial(self._delivered, begun))
            if self._is_stale:
                yield self._given_up(begun, "Kaggle no longer takes the token of its next page")
                begun, is_resumed = self._state.begin(name, self._clock.now()), False
                continue
            following = self._state.unfinished()
            assert following is not None, "another process ended the poll"
            begun, is_resumed = following, False
        yield Request(
            partial(self._absent, begun),
            notice=partial(self._notice, begun, is_complete=True),
            done=partial(self._state.end, is_complete=True),
        )

    def _fetch(self, begun: Unfinished, is_resumed: bool) -> Iterator[Records]:
        try:
            page = self._api.page(begun.token, begun.pages + 1)
        except StaleTokenError:
            if not is_resumed:
                raise
            self._is_stale = True
            return
        if not begun.pages and not page.rows:
            # Taken at its word it would unlist every dataset.
            raise BrokenAnswerError("Kaggle's dataset list is empty: it is not taken for complete.")
        if page.token and page.token == begun.token:
            raise BrokenAnswerError(f"page {begun.pages + 1} of Kaggle's dataset list names itself as the next one.")
        self._page = page
        # Of a dataset that a page repeats the last row counts: both would have one key and one version.
        rows = {row["ref"]: row for row in page.rows}
        self._state.saw(str(ref) for ref in rows if ref)
        same: dict[str, Value] = {"poll_ts": begun.poll_ts, "seen_ts": _millis(page.answered), "is_absent": False, "absent_polls": None}
        yield Records(LIST_KEY, [{**row, **same} for row in rows.values()])

    def _delivered(self, begun: Unfinished) -> None:
        if self._page is not None and not self._is_stale:
            is_last = not self._page.token
            self._state.turn(self._page.token, begun.pages + 1, self._page.answered if is_last else None)
        self._page = None

    def _absent(self, begun: Unfinished) -> Iterator[Records]:
        absent: list[dict[str, Value]] = [
            {
                "ref": ref,
                "poll_ts": begun.poll_ts,
                "seen_ts": begun.read_ts,
                "is_absent": True,
                "absent_polls": polls,
            }
            for ref, polls in self._state.absent()
            if polls <= TOLD
        ]
        yield Records(LIST_KEY, absent, cursor=begun.poll_ts)

    def _given_up(self, begun: Unfinished, why: str) -> Request:
        log.warning(
            "an interrupted poll is given up and a new one begins: what it did not come to see does not count as absent",
            source="kaggle",
            why=why,
            pages=begun.pages,
            poll_ts=begun.poll_ts.isoformat(),
        )
        return Request(lambda: [], notice=partial(self._notice, begun, is_complete=False), done=partial(self._state.end, is_complete=False))

    def _notice(self, begun: Unfinished, is_complete: bool) -> Mapping[str, Value]:
        return {
            "list_name": begun.list_name,
            "poll_ts": begun.poll_ts,
            "ended_ts": begun.read_ts if is_complete else _millis(self._clock.now()),
            "is_complete": is_complete,
            "rows": self._state.seen(),
            "absent": len(self._state.absent()) if is_complete else None,
            "pages": begun.pages,
        }


@contextmanager
def open_list(settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None) -> Iterator[ListPolls]:
    """Open a client for the list that the settings name; see `producers.source.OpenClient`."""
    with DatasetList(settings.kaggle_url, settings.kaggle_list_order, clock, is_stopping, budget) as api:
        yield ListPolls(api, ListState(settings.home / "state"), clock)


def open_list_budget(settings: Settings, lane: Lane, program: str) -> Budget:
    """Open the budget of the API that the settings name. Kaggle tells no limits; weir keeps to one by the minute.

    Raises:
        StateFileError: the file can be neither read nor replaced by a new one.
    """
    given = settings.kaggle_calls_per_minute
    default = 0 if is_loopback(settings.kaggle_url) else CALLS_PER_MINUTE
    minute = float((default if given is None else given) or math.inf)
    limits: dict[LimitSpan, float] = {"minute": minute, "hour": math.inf, "day": math.inf}
    return Budget(Path(settings.budget_path), settings.kaggle_url, limits, lane, program)


def _millis(instant: datetime) -> datetime:
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
