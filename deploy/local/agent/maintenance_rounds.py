"""When are the tables maintained? Every `maintain_hours` while the stream runs, by a separate process that ends when it is done.

It runs with a small heap and yields to the stream, as every batch program does. The next round completes work that a round could not do. It
logs to `logs/maintain.log`.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping

import structlog

from deploy.local.agent.processes import ProcessKey
from deploy.local.agent.run_files import PartState, log_file, remove_state, run_folder, write_state
from deploy.local.agent.stack_parts import MAINTAIN, command_of, last_line, launch
from lakehouse.settings import Settings
from lakehouse.storage.files import replace_file

# After a start of the stack the stream catches up first, however overdue a round is.
LEAST_SECONDS = 300.0
SMALL = {"WEIR_SPARK_DRIVER_MEMORY": "1g", "WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}

log = structlog.get_logger("weir.agent")


class Rounds:
    """Starts `weir maintain` when it is due, and waits for its end without blocking.

    Args:
        settings: of the home.
        environment: of the process.
        now: returns the time, in seconds since 1970.

    Attributes:
        process: of the running round, or None.
        due: when the next round begins, in seconds since 1970.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        self._settings, self._environment, self._now = settings, environment, now
        self._every = settings.maintain_hours * 3600
        self._file = settings.home / "state" / "maintain.json"
        self.process: subprocess.Popen[bytes] | None = None
        began = self._now()
        # Frequent restarts of the stack must not postpone rounds for ever; a new home's first round waits for the whole interval.
        self.due = max(self._last(began) + self._every, began + min(LEAST_SECONDS, self._every))

    def tend(self, is_stream_up: bool) -> None:
        """Check once whether a round has ended or the next one is due."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self.process = None
            remove_state(run_folder(self._settings), MAINTAIN)
            if code:
                says = last_line(log_file(self._settings, MAINTAIN))
                log.warning("maintenance did not complete; the next round continues", exit_code=code, says=says)
            self._wait()
        elif self._every and is_stream_up and self._now() >= self.due:
            self._start()

    def _start(self) -> None:
        self._wait()
        own = {name: value for name, value in SMALL.items() if name not in self._environment}
        written = log_file(self._settings, MAINTAIN)
        self.process = launch(("-m", "weir", *command_of(MAINTAIN, self._settings.is_on_yarn)), written, {**self._environment, **own})
        key = ProcessKey.of(self.process.pid)
        write_state(run_folder(self._settings), PartState(MAINTAIN, "up", key.pid, key.created, log=str(written)))
        log.info("started", part=MAINTAIN, pid=key.pid)

    def _wait(self) -> None:
        self.due = self._now() + self._every
        replace_file(self._file, json.dumps({"last": self._now()}))

    def _last(self, began: float) -> float:
        """Read when a round last began or ended; for a home without one, note and return the current time."""
        try:
            return float(json.loads(self._file.read_text())["last"])
        except (OSError, ValueError, KeyError, TypeError):
            if self._every:
                replace_file(self._file, json.dumps({"last": began}))
            return began
