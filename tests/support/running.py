"""A domain's driver in a thread of the test's process, and what it says of its queries."""

import threading
import time
from collections.abc import Callable, Mapping

from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from streaming.driver import Driver
from streaming.query_states import QueryState, read_states

LIMIT_SECONDS = 120


class Running:
    """A driver that runs until the end of a `with` block.

    Args:
        driver: not started yet.
        settings: of its home.
        domain: its name.
    """

    def __init__(self, driver: Driver, settings: Settings, domain: str) -> None:
        self.error: BaseException | None = None
        self._driver, self._settings, self._domain = driver, settings, domain
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._driver.run(available_now=False)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.request_stop()
        self._thread.join(LIMIT_SECONDS)
        self._driver.close()
        assert not self._thread.is_alive()

    def states(self) -> Mapping[str, QueryState]:
        """By query."""
        return {state.query: state for state in read_states(LocalFolder(self._settings.home / "state"), self._domain)}

    def until(self, what: Callable[[], object]) -> None:
        """Wait for an event; the driver's end is the end of waiting."""
        limit = time.monotonic() + LIMIT_SECONDS
        while not what():
            assert self._thread.is_alive(), self.error
            assert time.monotonic() < limit, self.states()
            time.sleep(0.1)

    def until_stopped(self, query: str, but: QueryState | None = None) -> QueryState:
        """Wait until a query is stopped, in another state than `but`."""
        self.until(lambda: query in self.states() and self.states()[query].state == "stopped" and self.states()[query] != but)
        return self.states()[query]
