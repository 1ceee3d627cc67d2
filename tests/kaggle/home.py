"""Kaggle's tables in a test: messages come in as Kafka would give them, and what is derived is compared with two other ways to make it."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark.sql import SparkSession

from lakehouse.domain import Domain
from lakehouse.domains.kaggle.domain import kaggle
from tests.kaggle.dumps import Dump, Record, messages
from tests.kaggle.listings import some_polls
from tests.kaggle.made_up import shuffled, some_dumps
from tests.support.law import DomainHome, Message

SOURCES = tuple(source.name.removeprefix("kaggle_") for source in kaggle("names").sources)


class KaggleHome(DomainHome):
    """One home with Kaggle's tables."""

    def __init__(self, session: SparkSession, folder: Path, domain: Domain | None = None, from_memory: bool = True) -> None:
        super().__init__(session, folder, domain or kaggle("names"), from_memory)

    def dump(self, *dumps: Dump) -> None:
        """Publish dumps one after the other, each table in one micro-batch."""
        self.publish(list(messages(dumps)))

    def publish(self, said: Sequence[tuple[str, Record]]) -> None:
        """Apply messages in their order, those of one topic after the other in one micro-batch."""
        while said:
            name = said[0][0]
            count = next((n for n, (other, _) in enumerate(said) if other != name), len(said))
            source = self.domain.sources[SOURCES.index(name)]
            self.take(self.land(source, [record for _, record in said[:count]]), source)
            said = said[count:]


def some_batches(chance: random.Random, count: int) -> Callable[[int], tuple[int, list[Message]]]:
    """Make up dumps, and cut their messages, in any order and some of them repeated, into micro-batches of one source each."""
    waiting: dict[str, list[Record]] = {name: [] for name in SOURCES}
    with TemporaryDirectory() as folder:
        polled = some_polls(chance, Path(folder), count=4).said
    for name, record in shuffled([*messages(some_dumps(chance)), *polled], chance):
        waiting[name].append(record)

    def some_batch(number: int) -> tuple[int, list[Message]]:
        """Give the next messages of some source; all that is left of one in the last rounds."""
        left = [name for name in SOURCES if waiting[name]] or list(SOURCES)
        name = chance.choice(left)
        size = len(waiting[name]) if count - number <= len(SOURCES) else chance.randint(1, 12)
        batch: list[Message] = [*waiting[name][:size], *([b"no JSON"] if chance.random() < 0.1 else [])]
        waiting[name] = waiting[name][size:]
        return SOURCES.index(name), batch

    return some_batch
