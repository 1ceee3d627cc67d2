"""How is a source called within its limits, with retries after short outages, and never without end?

A call first takes its weight from the budget, and waits for the limits of the minute and the hour. After an outage or a broken answer it is
retried a few times, with jitter. When the API itself reports that a limit is used up, the call waits until the limit resets, except for the
limit of the day. A refusal is final. A call that did not reach the API returns its weight to the budget. A metric counts calls by outcome.
"""

import random
from collections.abc import Callable
from typing import TypeVar

import stamina
import structlog

from lakehouse.errors import ProducerError
from monitoring import metrics
from producers.budget import Budget
from producers.call_errors import BrokenAnswerError, LimitError, NotReachedError, RefusedError, UnavailableError
from producers.clock import Clock
from producers.intercepted import InterceptedError

ATTEMPTS = 5
LIMIT_WAITS = 3
BACKOFF_FIRST_SECONDS, BACKOFF_MOST_SECONDS = 0.5, 20.0

Answer = TypeVar("Answer")

log = structlog.get_logger()


class Calls:
    """The calls of one client. Not thread-safe.

    Args:
        source: label of log lines and metrics.
        api: the API's name, for people.
        clock: returns the current time and sleeps.
        is_stopping: checked before a call is retried.
        budget: of the API; None where calls are not counted.
    """

    def __init__(self, source: str, api: str, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None) -> None:
        self._source, self._api, self._clock, self._is_stopping, self._budget = source, api, clock, is_stopping, budget

    def make(self, call: Callable[[], Answer], asked: str, weight: float = 1.0, attempts: int = ATTEMPTS) -> Answer:
        """Make one call, with retries and waits as the module describes.

        Args:
            call: sends the request and reads the answer, with a timeout of its own; raises the errors of `call_errors`.
            asked: what is requested, for messages.
            weight: as the API's limits count it.
            attempts: the maximum number of attempts, not counting those that a limit stopped.

        Raises:
            RefusedError: the API refused.
            LimitError: the limit of the day is used up, or another limit still is after waiting for it.
            InterceptedError: a proxy or a log-in page answered instead of the API.
            TooHeavyError, StateFileError: see `Budget.take`.
            UnavailableError, BrokenAnswerError: the last attempt failed too.
        """
        for waits_left in reversed(range(LIMIT_WAITS + 1)):
            try:
                return self._with_retries(call, asked, weight, attempts)
            except LimitError as limit:
                if limit.span == "day" or not waits_left:
                    raise
                # A little later than the boundary, and at a random time: clocks differ, and other programs wait for it too.
                seconds = (limit.until - self._clock.now()).total_seconds() + random.uniform(0.5, 2)
                until = limit.until.isoformat()
                log.warning("waiting for the limit", source=self._source, span=limit.span, until=until, seconds=round(seconds, 1))
                self._clock.sleep(max(seconds, 0))
        raise AssertionError("the last wait returns or raises")

    def _with_retries(self, call: Callable[[], Answer], asked: str, weight: float, attempts: int) -> Answer:
        for attempt in stamina.retry_context(
            on=self._is_worth_repeating,
            attempts=attempts,
            timeout=None,
            wait_initial=BACKOFF_FIRST_SECONDS,
            wait_max=BACKOFF_MOST_SECONDS,
        ):
            with attempt:
                if attempt.num > 1:
                    metrics.PRODUCER_RETRIES.labels(source=self._source).inc()
                return self._once(call, asked, weight)
        raise AssertionError("the last attempt returns or raises")

    def _is_worth_repeating(self, error: Exception) -> bool:
        return isinstance(error, (UnavailableError, BrokenAnswerError)) and not self._is_stopping()

    def _once(self, call: Callable[[], Answer], asked: str, weight: float) -> Answer:
        self._wait_for_budget(weight, asked)
        began = self._clock.now()
        try:
            answer = call()
        except ProducerError as error:
            if isinstance(error, LimitError) and self._budget:
                self._budget.fill(error.span, self._clock.now())
            if isinstance(error, (InterceptedError, NotReachedError)) and self._budget:
                self._budget.give_back(weight, began)
            metrics.PRODUCER_CALLS.labels(source=self._source, outcome=_outcome(error)).inc()
            raise
        metrics.PRODUCER_CALLS.labels(source=self._source, outcome="ok").inc()
        return answer

    def _wait_for_budget(self, weight: float, asked: str) -> None:
        """Take one call's weight; wait as often as needed for the limits of the minute and the hour, but not for midnight."""
        while self._budget and (wait := self._budget.take(weight, self._clock.now())):
            if wait.span == "day":
                raise LimitError(self._api, wait.span, wait.until, wait.reason, asked)
            # A poll retries before a backfill does.
            after = random.uniform(0.5, 2) if self._budget.lane == "poll" else random.uniform(2.5, 4)
            until = wait.until.isoformat()
            log.warning("waiting for the budget", source=self._source, span=wait.span, until=until, reason=wait.reason, asked=asked)
            metrics.PRODUCER_BUDGET_WAITS.labels(source=self._source, window=wait.span).inc()
            self._clock.sleep(max((wait.until - self._clock.now()).total_seconds() + after, 0))


def _outcome(error: ProducerError) -> str:
    if isinstance(error, RefusedError):
        return "refused"
    if isinstance(error, LimitError):
        return "limited"
    return "broken" if isinstance(error, BrokenAnswerError) else "unavailable"
