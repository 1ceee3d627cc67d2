"""How can a call of a source end badly, and does asking again help? A client raises these; `calls.py` acts by them."""

from datetime import datetime

from lakehouse.errors import Fatal, ProducerError, Retryable
from producers.budget import LimitSpan


class RefusedError(ProducerError, Fatal):
    """The API refused the request itself; asking again changes nothing."""


class UnavailableError(ProducerError, Retryable):
    """The API did not answer: down, overloaded, too slow, or out of reach."""


class NotReachedError(UnavailableError):
    """The request ended at a proxy: the API did not see it."""


class BrokenAnswerError(ProducerError, Retryable):
    """The source answered with something that is not an answer to what was asked: cut off, of another entity, too short."""


class LimitError(ProducerError, Retryable):
    """A limit on calls is used up.

    Args:
        api: whose limit, as people call it.
        span: which limit.
        until: when it begins anew.
        reason: who says so, and how.
        asked: what was asked for.
    """

    def __init__(self, api: str, span: LimitSpan, until: datetime, reason: str, asked: str) -> None:
        super().__init__(f"{api}'s limit of the {span} is used up ({reason}), asked for {asked}. Come back at {until:%Y-%m-%dT%H:%M:%SZ}.")
        self.span, self.until = span, until
