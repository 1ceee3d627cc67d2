"""How can a call of a source fail, and does a retry help? Clients raise these errors; `calls.py` retries according to their type."""

from datetime import datetime

from lakehouse.errors import Fatal, ProducerError, Retryable
from producers.budget import LimitSpan


class RefusedError(ProducerError, Fatal):
    """The API refused the request itself; a retry would be refused too."""


class UnavailableError(ProducerError, Retryable):
    """The API did not answer: it is down, overloaded, too slow or unreachable."""


class NotReachedError(UnavailableError):
    """A proxy stopped the request: it did not reach the API."""


class BrokenAnswerError(ProducerError, Retryable):
    """The answer does not match the request: it is cut off, too short, or about another entity."""


class LimitError(ProducerError, Retryable):
    """A limit on calls is used up.

    Args:
        api: the API's name, for people.
        span: which limit.
        until: when it resets.
        reason: the API's message, or weir's own count.
        asked: what was requested, for the message.
    """

    def __init__(self, api: str, span: LimitSpan, until: datetime, reason: str, asked: str) -> None:
        super().__init__(
            f"The limit of {api} for the {span} is used up ({reason}); requested: {asked}. Run it again after {until:%Y-%m-%dT%H:%M:%SZ}."
        )
        self.span, self.until = span, until
