"""Which sources of a refine query does the breaker hold back, and how do they go on?

A refused source stops alone: its rows wait in bronze, those of the domain's other sources are applied. The checkpoint notes where the first
refused micro-batch began in the source's table. Spark counts the micro-batches after it as read, so the next start of the query, after
`weir resume` or with a new driver, adds an entry to the checkpoint that goes back to that position for this source alone. Its rows are then
judged again, and are held back again if the breaker still refuses them.

The note lies in the checkpoint and not in the state folder: whoever loses one loses the other, and a new checkpoint reads everything.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog

from lakehouse.storage.folders import Folder
from lakehouse.tables.stream_positions import HELD_BACK, NO_OFFSET, read_held_back
from streaming.errors import RejectRateExceeded

log = structlog.get_logger("weir.stream")


class HeldBack:
    """The sources of one query that are held back.

    Args:
        checkpoint: the query's.
        names: of its sources, in the order of its inputs.
    """

    def __init__(self, checkpoint: Folder, names: Sequence[str]) -> None:
        self._checkpoint, self._names = checkpoint, names
        # By source, why it is held back; only those that were refused since the query's start.
        self.refused: dict[str, RejectRateExceeded] = {}

    def noted(self) -> set[str]:
        """Return the sources that the checkpoint names as held back."""
        return {self._names[number] for number in self._read() if number < len(self._names)}

    def hold(self, batch_id: int, refused: Mapping[str, RejectRateExceeded]) -> None:
        """Hold sources back from the start of a micro-batch on.

        Args:
            batch_id: of the micro-batch, which is not committed yet.
            refused: the error by source; none of them was held back before.

        Raises:
            RejectRateExceeded: no source is left, so the query must stop.
        """
        starts = self._starts(batch_id)
        held = self._read()
        since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for name, error in refused.items():
            number = self._names.index(name)
            held.setdefault(number, {"start": starts[number], "source": name, "since": since})
            self.refused[name] = error
        # Before the micro-batch is committed: a crash in between repeats it with these sources held back.
        self._checkpoint.write(HELD_BACK, json.dumps({str(number): dict(noted) for number, noted in held.items()}))
        if len(self.refused) == len(self._names):
            raise next(iter(refused.values()))
        for name, error in refused.items():
            log.error("source held back", source=name, reason=str(error))

    def release(self) -> None:
        """Let the query read held sources again from where they were held. Call it before Spark starts the query; safe to repeat.

        A planned micro-batch that is not committed is planned again, which changes nothing, since every step of it is safe to repeat.
        """
        held = self._read()
        if not held:
            return
        folder = self._checkpoint
        committed, planned = (max((int(n) for n in folder.names(sub) if n.isdigit()), default=-1) for sub in ("commits", "offsets"))
        if committed >= 0:
            lines = (folder.text(f"offsets/{committed}") or "").splitlines()
            before = list(lines)
            for number, noted in held.items():
                lines[2 + number] = noted["start"]
            if lines != before:  # else the micro-batch that was refused is the next one
                if planned > committed:
                    folder.remove(f"offsets/{planned}")
                folder.write(f"offsets/{committed + 1}", "\n".join(lines))
                folder.write(f"commits/{committed + 1}", folder.text(f"commits/{committed}") or "")
        folder.remove(HELD_BACK)
        log.info("held sources are judged again", sources=[noted.get("source", number) for number, noted in held.items()])

    def _starts(self, batch_id: int) -> list[str]:
        """Return where a micro-batch begins in each input, as Spark writes it."""
        if batch_id == 0:
            return [NO_OFFSET] * len(self._names)
        return (self._checkpoint.text(f"offsets/{batch_id - 1}") or "").splitlines()[2:]

    def _read(self) -> dict[int, Mapping[str, str]]:
        return read_held_back(self._checkpoint.text(HELD_BACK))
