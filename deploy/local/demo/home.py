"""Which folder may the demo use? Never one with files that the demo did not create.

The complete rule:

- A home with nothing but `run/` and `logs/` is free.
- A home with the marker `demo.json` belongs to the demo, which empties and reuses it if all of these conditions hold: it contains only what
  the demo creates (so no locations.jsonl, and no cursor in `state/`), weir.toml is as the demo wrote it, and Kafka's messages and the
  tables are those that the demo left. A demo that was killed left no note of the messages and tables; then the other conditions decide.
- Any other home belongs to the user: the demo runs in `<home>-demo` beside it, for which the same rule holds.

While the demo runs it holds a lock in `run/`, so that two demos never share a home.
"""

import fcntl
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.agent.run_files import PARTS, read_state
from lakehouse.errors import DeployError, Fatal

MARKER = "demo.json"
SETTINGS_FILE = "weir.toml"
CATALOG = "catalog.db"
_CATALOG_FILES = (CATALOG, *(f"{CATALOG}-{kind}" for kind in ("wal", "shm", "journal")))
MADE = (MARKER, f".{MARKER}.new", SETTINGS_FILE, *_CATALOG_FILES, "kafka", "warehouse", "checkpoints", "state")
ANYBODYS = ("run", "logs")
# Written by the demo's driver and producer; programs that ran later leave other files there too.
STATE_FILES = ("air_quality.breaker.json", "open-meteo.published.db")


class HomeIsTaken(DeployError, Fatal):
    """Neither the home nor the folder beside it may be used."""

    def __init__(self, home: Path, why: str) -> None:
        super().__init__(f"The demo needs its own folder, but {home} {why}. Move it away, or set WEIR_HOME to an empty folder.")


class HomeRuns(DeployError, Fatal):
    """Parts run in the demo's home."""

    def __init__(self, home: Path, what: str) -> None:
        super().__init__(f"{what} in {home}, which the demo would empty. `WEIR_HOME={home} weir down` stops it; then run the demo again.")


@dataclass(frozen=True, slots=True)
class Left:
    """The data that a demo left in its home: bytes of messages in Kafka's folder, and {table: its current metadata file}."""

    kafka_bytes: int
    tables: dict[str, str]


def choose_home(wanted: Path) -> tuple[Path, str]:
    """Return the home to use, and why it is not the wanted one (empty if it is).

    Raises:
        HomeIsTaken: the folder beside it does not belong to the demo either.
    """
    why = what_is_not_ours(wanted)
    if not why:
        return wanted, ""
    beside = wanted.with_name(f"{wanted.name}-demo")
    if other := what_is_not_ours(beside):
        raise HomeIsTaken(beside, other)
    return beside, why


def what_is_not_ours(home: Path) -> str:
    """Return why a home does not belong to the demo, as the end of a sentence such as "has …"; empty when the demo may use it."""
    if not home.exists():
        return ""
    if not home.is_dir():
        return "is not a folder"
    names = sorted(entry.name for entry in home.iterdir() if not (entry.is_dir() and not any(entry.iterdir())))
    names = [name for name in names if name not in ANYBODYS]
    marker = _read_marker(home)
    if marker is None:
        return f"has {_listed(names)} that the demo did not create" if names else ""
    others = [name for name in names if name not in MADE]
    others += [f"state/{file.name}" for file in sorted((home / "state").glob("*")) if not file.name.startswith(STATE_FILES)]
    if others:
        return f"has {_listed(others)} that the demo did not create"
    written, left = marker
    settings_file = home / SETTINGS_FILE
    if settings_file.exists() and settings_file.read_text(errors="replace") != written:
        return f"has a {SETTINGS_FILE} that was changed after the demo"
    if left is not None and (now := what_is_in(home)) != left:
        return "has messages that the demo did not publish" if now.kafka_bytes != left.kafka_bytes else "has tables that were changed since"
    return ""


def what_is_in(home: Path) -> Left:
    """Measure Kafka's topics and the tables, without starting anything."""
    return Left(_kafka_bytes(home / "kafka" / "data"), table_heads(home / CATALOG))


def prepare(home: Path, settings_text: str) -> None:
    """Empty a home that is free or the demo's, and mark it. The marker is written first, so a crash never leaves an unmarked home."""
    for name in (*MADE[1:], "logs") if (home / MARKER).exists() else ():
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _write_marker(home, settings_text, None)
    (home / SETTINGS_FILE).write_text(settings_text)
    (home / "logs").mkdir(exist_ok=True)


def note_what_is_left(home: Path) -> None:
    """Note in the marker which data the demo leaves, after all its parts have stopped."""
    marker = _read_marker(home)
    if marker is not None:
        _write_marker(home, marker[0], what_is_in(home))


@contextmanager
def only_demo(home: Path) -> Iterator[None]:
    """Lock the home for this demo.

    Raises:
        HomeRuns: parts of the stack, or another demo, run in it.
    """
    run = home / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HomeRuns(home, "Another demo runs") from error
        running = [part for part in (*PARTS, "agent") if (state := read_state(run, part)) is not None and state.alive]
        if running:
            raise HomeRuns(home, f"The stack runs ({', '.join(running)})")
        if _is_held(run / "stream-air_quality.lock"):
            raise HomeRuns(home, "A stream runs")
        yield


def _is_held(file: Path) -> bool:
    if not file.exists():
        return False
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _read_marker(home: Path) -> tuple[str, Left | None] | None:
    try:
        marker = json.loads((home / MARKER).read_text())
        left = marker["left"]
        return str(marker["settings"]), None if left is None else Left(int(left["kafka_bytes"]), dict(left["tables"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_marker(home: Path, settings_text: str, left: Left | None) -> None:
    about = "`weir demo` created everything in this folder and may empty it; see deploy/local/demo/home.py"
    beside = home / f".{MARKER}.new"
    beside.write_text(
        json.dumps({"about": about, "settings": settings_text, "left": None if left is None else asdict(left)}, indent=1) + "\n"
    )
    beside.replace(home / MARKER)


def _kafka_bytes(data: Path) -> int:
    """Sum the size of the topics' segments, without Kafka's internal topics, which grow with every start."""
    return sum(file.stat().st_size for file in data.glob("*/*.log") if not file.parent.name.startswith("__"))


def table_heads(catalog: Path) -> dict[str, str]:
    """Read the current metadata file of each table from the embedded catalog's file."""
    if not catalog.exists():
        return {}
    with closing(sqlite3.connect(catalog)) as connection:
        try:
            rows = connection.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables").fetchall()
        except sqlite3.DatabaseError:  # empty, or not the demo's
            return {}
    return {f"{space}.{name}": str(location) for space, name, location in rows}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "")
