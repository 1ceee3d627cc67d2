"""Which Java runs Spark and Kafka on this machine?"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.environment import own_environment

# Spark 4.1 is tested on 17 and 21; Iceberg's and Kafka's jars run on both.
GOOD_VERSIONS = (17, 21)
INSTALLED = Path("/usr/lib/jvm")
# Spark's launcher always asks for this module; trimmed Javas, such as one from a Python package, start without it and fail there.
VECTORS = "jdk.incubator.vector"
_USELESS = re.compile(r"^Error occurred during init|Could not create the Java|fatal exception has occ|^Picked up|^NOTE:|incubator")


class WrongJava(LakehouseError, Fatal):
    """No Java that Spark and Kafka run on was found."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"Java 17 or 21 is needed, found {found}. "
            f"Install one (Debian: apt-get install openjdk-17-jre-headless) and set JAVA_HOME to its folder."
        )
        self.found = found


@dataclass(frozen=True, slots=True)
class Java:
    """One Java: the launcher, its home folder and its major version."""

    launcher: Path
    home: Path
    version: int


def find_java(environment: Mapping[str, str], installed: Path = INSTALLED) -> Java:
    """Find a Java 17 or 21: JAVA_HOME, then PATH, then the system's folder of Javas.

    Raises:
        WrongJava: none was found; names each that was looked at with its version.
    """
    seen: list[str] = []
    for where, launcher in _candidates(environment, installed):
        if (version := java_version(launcher, VECTORS)) in GOOD_VERSIONS:
            real = launcher.resolve()
            return Java(launcher=real, home=real.parent.parent, version=version)
        version = java_version(launcher)
        lacking = f" without {VECTORS}" if version in GOOD_VERSIONS else ""
        seen.append(f"Java {version}{lacking} ({where})" if version else f"{launcher} that does not start ({where}{_why(launcher)})")
    raise WrongJava(", ".join(seen) or f"none in JAVA_HOME, on PATH or in {installed}")


def java_version(launcher: Path, module: str | None = None) -> int | None:
    """Ask a launcher for its major version; null means it does not start, lacks the module, or says nothing of the kind."""
    code, said = _ask(launcher, module)
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found and code == 0 else None


def last_words(said: str) -> str:
    """Pick the line of a JVM's output that names the cause."""
    lines = [line.strip().rstrip(".") for line in said.splitlines() if line.strip() and not _USELESS.search(line)]
    return (lines or [""])[0][:300]


def _ask(launcher: Path, module: str | None = None) -> tuple[int | None, str]:
    modules = ["--add-modules", module] if module else []
    try:
        # Without the options that a shell gives every JVM: ours do not get them either.
        command, own = [str(launcher), *modules, "-version"], own_environment(os.environ)
        answer = subprocess.run(command, env=own, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, ""
    return answer.returncode, answer.stderr + answer.stdout


def _why(launcher: Path) -> str:
    words = last_words(_ask(launcher)[1])
    return f": {words}" if words else ""


def _candidates(environment: Mapping[str, str], installed: Path) -> Iterator[tuple[str, Path]]:
    if home := environment.get("JAVA_HOME"):
        yield f"JAVA_HOME={home}", Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        yield "on PATH", Path(on_path)
    for launcher in sorted(installed.glob("*/bin/java")):
        yield "installed", launcher


def main() -> int:
    """Print the Java that will be used, or the one sentence that says why there is none."""
    try:
        java = find_java(dict(os.environ))
    except WrongJava as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Java {java.version} in {java.home}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
