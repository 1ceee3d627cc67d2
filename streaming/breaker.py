"""Do too many rows break the rules? Judged over a source's last rows before a micro-batch is applied.

The window holds rows and rejects of the last micro-batches; the oldest one counts with the share that lies in the window. A repeated
micro-batch replaces its own entry and all later ones. A micro-batch that was refused is not in the window, since it was not applied.

`weir resume DOMAIN --accept` stores bronze's mark at that moment: for each topic and partition the first offset that is not accepted. A
micro-batch whose rows all lie below the mark passes and is not counted, and the window starts empty. One that extends beyond the mark is
judged as a whole. Window and mark are one file in the state folder, so they survive a restart.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lakehouse.counts import Applied
from lakehouse.storage.folders import Folder
from lakehouse.write.fenced_append import Mark
from streaming.errors import RejectRateExceeded


@dataclass(frozen=True, slots=True)
class Limit:
    """The breaker opens above `percent` rejects in the last `window` rows, once there are at least `least` rows."""

    percent: float = 10.0
    window: int = 1000
    least: int = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows and rejects of one micro-batch."""

    batch_id: int
    rows: int
    rejected: int


def over_window(batches: Sequence[Counted], window: int) -> tuple[int, int]:
    """Sum rows and rejects of the newest micro-batches up to `window` rows; the oldest one counts with its share."""
    rows, rejected = 0, 0.0
    for batch in reversed(batches):
        fitting = min(batch.rows, window - rows)
        if fitting <= 0:
            break
        rows += fitting
        rejected += batch.rejected * fitting / batch.rows
    return rows, round(rejected)


class Breaker:
    """Judges the rows of one source.

    Args:
        folder: where window and mark are kept.
        file: the name of their file.
        domain: for the error's text.
        limit: from the settings.
        source: for the error's text; the domain when left out.
    """

    def __init__(self, folder: Folder, file: str, domain: str, limit: Limit, source: str = "") -> None:
        self._folder, self._file = folder, file
        self._domain, self._limit, self._source = domain, limit, source or domain
        self._batches: list[Counted] = []
        self._accepted = Mark()
        try:
            held = json.loads(folder.text(file) or "")
            self._batches = [Counted(*batch) for batch in held["batches"]]
            self._accepted = Mark.from_json(held["accepted"])
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # an empty window: the next rows are judged from `least` on

    def judge(self, batch_id: int, met: Applied) -> None:
        """Count a micro-batch, or refuse it.

        Raises:
            RejectRateExceeded: too many rows are rejects, and the micro-batch must not be applied.
        """
        # A message without a value says nothing about source or rules, so it does not count.
        if not met.judged or self._is_accepted(met.offsets):
            return
        rejected = sum(met.rejected.values()) - met.unjudged
        batches = [*(batch for batch in self._batches if batch.batch_id < batch_id), Counted(batch_id, met.judged, rejected)]
        rows, bad = over_window(batches, self._limit.window)
        if rows >= self._limit.least and 100 * bad > self._limit.percent * rows:
            raise RejectRateExceeded(self._domain, self._source, bad, rows, self._limit.percent, Counter(met.rejected))
        kept: list[Counted] = []
        for batch in reversed(batches):
            if sum(one.rows for one in kept) >= self._limit.window:
                break
            kept.insert(0, batch)
        self._batches = kept
        self._save()

    def accept(self, mark: Mark) -> None:
        """Accept all rows below a mark of bronze, and start with an empty window.

        Args:
            mark: bronze's newest.
        """
        self._accepted, self._batches = mark, []
        self._save()

    def _is_accepted(self, offsets: Mapping[str, Mapping[str, tuple[int, int]]]) -> bool:
        reached = [(topic, int(p), last) for topic, partitions in offsets.items() for p, (_, last) in partitions.items()]
        return bool(reached) and all(last < self._accepted.next_offsets.get((topic, p), 0) for topic, p, last in reached)

    def _save(self) -> None:
        held = {"batches": [[one.batch_id, one.rows, one.rejected] for one in self._batches], "accepted": self._accepted.to_json()}
        self._folder.write(self._file, json.dumps(held))
