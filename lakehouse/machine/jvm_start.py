"""Why did the driver's JVM not start? PySpark says only that it ended, on a page of its own calls."""

import re
import subprocess
from collections.abc import Sequence

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.java import Java, last_words

PROBE_SECONDS = 30


class DriverNotStarted(LakehouseError, Fatal):
    """The JVM of a Spark driver ended before it answered, or Spark refused its settings."""

    def __init__(self, reason: str, heap: str, options: str) -> None:
        given = f", WEIR_SPARK_JAVA_OPTIONS={options}" if options else ""
        super().__init__(
            f"Spark's driver did not start: {reason}. It was started with WEIR_SPARK_DRIVER_MEMORY={heap}{given}; "
            f"`weir doctor` checks this machine."
        )
        self.reason = reason


def why_not_started(error: Exception, java: Java, heap: str, options: Sequence[str]) -> str:
    """Find the reason: what Spark says, or what a JVM with the same heap and options says when it is started alone.

    Args:
        error: what PySpark raised.
        java: that was started.
        heap: as -Xmx takes it.
        options: the operator's own of the JVM.
    """
    said = re.search(r"^: (?:[\w$.]+\.)?(\w+(?:Exception|Error): .*)$", str(error), re.MULTILINE)
    if said:
        return said[1].strip().rstrip(".")[:300]
    try:
        alone = subprocess.run(
            [str(java.launcher), f"-Xmx{heap}", *(option.strip("\"'") for option in options), "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return f"{java.launcher} does not run ({failure})"
    if alone.returncode:
        return last_words(alone.stdout + alone.stderr) or f"{java.launcher} ended with {alone.returncode} and said nothing"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{first.rstrip('.')[:300]}; what the JVM said stands above"
