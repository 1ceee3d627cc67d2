"""What can end a stream, and does starting it again help?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lakehouse.errors import Fatal, Retryable, StreamError


class QueryFailed(StreamError, Retryable):
    """A query ended with an error."""

    def __init__(self, query: str, cause: str) -> None:
        super().__init__(f"Query {query} ended: {cause}. Its checkpoint is intact: started again, it goes on where it stopped.")
        self.query = query


class AlreadyRunning(StreamError, Fatal):
    """Another driver of the same query runs on this home."""

    def __init__(self, domain: str, pid: str) -> None:
        super().__init__(
            f"The stream of {domain} already runs here (process {pid or 'unknown'}): two drivers would write the same tables. "
            "`weir down` stops it."
        )


class BadCheckpoint(StreamError, Fatal):
    """A checkpoint is not what its query wrote."""

    def __init__(self, query: str, uri: str, found: str, expected: str, domain: str) -> None:
        super().__init__(
            f"The checkpoint of {query} at {uri} cannot be used: found {found}, expected {expected}. Nothing was read or written. Either "
            f"put back the folder as it was, or begin with new checkpoints: `weir down`, then `weir stream {domain} --new-checkpoint "
            "--available-now`, then `weir up`. The old ones are kept beside the new; bronze goes on after the rows it holds, silver and "
            "gold are applied again from all of bronze and end up the same."
        )


@dataclass(frozen=True, slots=True, order=True)
class LostRange:
    """A range of offsets of one partition that neither Kafka nor bronze has; both ends included."""

    topic: str
    partition: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        """The greatest number of messages that it can hold: not every offset is a message."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} offsets {self.first} to {self.last} ({self.rows} messages at most)"


class DataLoss(StreamError, Fatal):
    """Kafka no longer has messages that bronze has not read."""

    def __init__(self, query: str, lost: Sequence[LostRange], domain: str) -> None:
        super().__init__(
            f"Query {query} stopped: Kafka no longer has messages that it has not read: {'; '.join(map(str, lost))}. Restore the broker's "
            f"data or publish them again, or go on without them: `weir resume {domain} --accept-loss` records the ranges in lh.ops.losses."
        )
        self.lost = tuple(lost)


class BrokerLostItsEnd(StreamError, Fatal):
    """A partition ends before the offsets that bronze holds, although the topic is the same."""

    def __init__(self, query: str, topic: str, ends: Mapping[int, tuple[int, int]]) -> None:
        found = "; ".join(f"partition {p} ends at {end}, bronze holds up to {held - 1}" for p, (end, held) in sorted(ends.items()))
        super().__init__(
            f"Query {query} stopped: topic {topic} ends before what bronze holds of it ({found}). New messages would come under offsets "
            "that bronze already has and be dropped as repeats, so this cannot be accepted. Restore the broker's data, or publish under a "
            "new WEIR_HOME."
        )


class AheadOfTransaction(StreamError, Retryable):
    """Bronze holds messages that an open transaction may still abort: an older version of weir read uncommitted messages."""

    def __init__(self, query: str, topic: str, ends: Mapping[int, tuple[int, int]]) -> None:
        found = "; ".join(f"partition {p} can be read up to {end - 1}, {passed - 1} was read" for p, (end, passed) in sorted(ends.items()))
        super().__init__(
            f"Query {query} waits: topic {topic} has an open transaction before offsets that an older version of weir has read "
            f"({found}). The query continues when the transaction ends."
        )


class RejectRateExceeded(StreamError, Fatal):
    """Too many of a domain's last rows break its rules: more likely the source or the rules changed than the rows are bad."""

    def __init__(self, domain: str, source: str, rejected: int, rows: int, limit_percent: float, rules: Mapping[str, int]) -> None:
        named = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items(), key=lambda item: -item[1])[:5])
        super().__init__(
            f"{rejected} of the last {rows} rows of {source} break its rules ({100 * rejected / rows:.1f} %, the limit is "
            f"{limit_percent:g} %; in the micro-batch that was not applied: {named or 'none'}). Nothing of it was written, bronze goes on. "
            f"When the cause is gone (a place added, a rule corrected), `weir resume {domain}` judges again; "
            f"`weir resume {domain} --accept` lets the rows that are in bronze by then through, the bad ones to lh.ops.rejects."
        )
