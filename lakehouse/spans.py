"""Which entities, over which times, did some rows touch? Small sets of (entity, from, until), collected on the driver."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

# Two spans of one entity closer than this are one: it costs less to recompute the hours between than to tell them apart.
JOIN_GAP = timedelta(hours=72)
# A business entity: a text, or a number.
Entity = Any


@dataclass(frozen=True, slots=True)
class Times:
    """The columns by which spans select a table's rows.

    Attributes:
        entity: the business entity.
        starts: the row's (first) instant or date.
        ends: its last one; as `starts` where a row has only one.
    """

    entity: str
    starts: str
    ends: str = ""

    @property
    def last(self) -> str:
        """The column with the row's last time."""
        return self.ends or self.starts


@dataclass(frozen=True)
class Spans:
    """Spans of time by entity, both ends included, sorted, without overlap within an entity. Instants are aware UTC."""

    rows: tuple[tuple[Entity, datetime, datetime], ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[Entity, datetime, datetime]], gap: timedelta = JOIN_GAP) -> "Spans":
        """Join spans of one entity that overlap or lie closer than `gap`."""
        joined: list[tuple[Entity, datetime, datetime]] = []
        for entity, start, end in sorted(rows):
            if joined and joined[-1][0] == entity and start - joined[-1][2] <= gap:
                joined[-1] = (entity, joined[-1][1], max(joined[-1][2], end))
            else:
                joined.append((entity, start, end))
        return cls(tuple(joined))

    def __bool__(self) -> bool:
        return bool(self.rows)

    def widened(self, before: timedelta = timedelta(0), after: timedelta = timedelta(0)) -> "Spans":
        """Return spans that begin `before` earlier and end `after` later."""
        return Spans.of((entity, start - before, end + after) for entity, start, end in self.rows)

    def whole_days(self) -> "Spans":
        """Return spans that begin and end with a UTC day."""
        return Spans.of((e, _midnight(start), _midnight(end) + timedelta(days=1, microseconds=-1)) for e, start, end in self.rows)

    def joined(self, rows: Iterable[tuple[Entity, datetime, datetime]], gap: timedelta = JOIN_GAP) -> "Spans":
        """Add more spans."""
        return Spans.of((*self.rows, *rows), gap)

    def missing(self, wanted: "Spans") -> "Spans":
        """Return those spans of others that no span of these holds whole."""
        held: dict[Entity, list[tuple[datetime, datetime]]] = {}
        for entity, start, end in self.rows:
            held.setdefault(entity, []).append((start, end))
        return Spans(tuple(row for row in wanted.rows if not any(start <= row[1] and row[2] <= end for start, end in held.get(row[0], ()))))

    def crossed_by(self, rows: Iterable[tuple[Entity, datetime, datetime]]) -> list[tuple[Entity, datetime, datetime]]:
        """Return those of some times by entity that lie partly in a span of these, and in none whole."""
        out = self.missing(Spans(tuple(rows))).rows
        return [row for row in out if any(entity == row[0] and start <= row[2] and row[1] <= end for entity, start, end in self.rows)]

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """The entities, sorted."""
        return tuple(sorted({entity for entity, _, _ in self.rows}))

    @cached_property
    def alike(self) -> dict[tuple[tuple[datetime, datetime], ...], tuple[Entity, ...]]:
        """The entities by their times: places that are polled together have the same."""
        times: dict[Entity, list[tuple[datetime, datetime]]] = {}
        for entity, start, end in self.rows:
            times.setdefault(entity, []).append((start, end))
        grouped: dict[tuple[tuple[datetime, datetime], ...], tuple[Entity, ...]] = {}
        for entity, ranges in times.items():
            grouped[tuple(ranges)] = (*grouped.get(tuple(ranges), ()), entity)
        return grouped

    @cached_property
    def ranges(self) -> tuple[tuple[datetime, datetime], ...]:
        """The times of all entities together, for pruning: at most twelve ranges, joined where more lie close."""
        gap = JOIN_GAP
        while True:
            merged = Spans.of((("", start, end) for _, start, end in self.rows), gap).rows
            if len(merged) <= 12:
                return tuple((start, end) for _, start, end in merged)
            gap *= 4


def _midnight(instant: datetime) -> datetime:
    utc = instant.astimezone(UTC)
    return utc.replace(hour=0, minute=0, second=0, microsecond=0)
