"""The verbs as they are typed: exit codes, and what stands on stdout and stderr."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.producers import PACKED

ROOT = Path(__file__).parents[3]


def weir(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # The budget of a user's own programs is none of a test's.
    base = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "COLUMNS": "300", "WEIR_HOME": str(home), "WEIR_BUDGET_PATH": str(home / "budget.db")}
    environment = base | environment
    return subprocess.run([sys.executable, "-m", "weir", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("produce", "open-meteo"), 1, "no Kafka: run `weir up --services-only` or set WEIR_KAFKA_BOOTSTRAP"),
        (("produce", "close-meteo"), 2, "'close-meteo' is not a source; expected one of open-meteo, kaggle"),
        (("produce", "open-meteo", "--since", "2024-1-1"), 2, "--since '2024-1-1' is no day, expected YYYY-MM-DD"),
        (("produce", "open-meteo", "--until", "2024-01-01"), 2, "--until needs --since"),
        (
            ("produce", "open-meteo", "--since", "2024-01-02", "--until", "2024-01-01"),
            2,
            "--since 2024-01-02 lies after --until 2024-01-01",
        ),
        (("produce", "open-meteo", "--since", "1999-01-02", "--until", "1999-01-09"), 2, "the API has days from 2013-01-01"),
        (("produce", "open-meteo", "--once", "--since", "2024-01-02"), 2, "--once cannot be combined with --since or --replay"),
        (("produce", "open-meteo", "--locations", "hanoi,hue"), 2, "--locations hue: no such place in"),
        (("produce", "open-meteo", "--replay", str(PACKED), "--speed", "fast"), 2, "--speed 'fast', expected max or a multiple of time"),
        (("produce", "open-meteo", "--speed", "1x"), 2, "--set and --speed need --replay"),
        (("produce", "open-meteo", "--replay", "nowhere.json"), 1, "nowhere.json: cannot be read"),
        (("add-city", "Quito", "-90.1", "0"), 2, "LAT is -90.1, expected degrees from -90 to 90"),
        (("add-city", "Quito", "-0.18"), 2, "Missing argument"),
        (("add-city", "Quito", "-0.18", "-78.47", "--timezon", "UTC"), 2, "unexpected extra argument"),
    ],
)
def test_what_cannot_be_done_says_so_and_how(tmp_path: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = weir(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "locations.jsonl").exists()
    assert not (tmp_path / "budget.db").exists(), "a producer that never asked took or kept calls"


def test_add_city_takes_negative_coordinates_and_any_letter(tmp_path: Path) -> None:
    done = weir(tmp_path, "add-city", "Quito", "-0.18", "-78.47", "--timezone", "America/Guayaquil")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("added quito (Quito, -0.18, -78.47, America/Guayaquil) to ")
    assert "weir produce open-meteo --locations quito --since" in done.stdout
    assert weir(tmp_path, "add-city", "Đà Lạt", "11.94", "108.44").stdout.splitlines()[1].startswith("its local hours are in UTC")
    again = weir(tmp_path, "add-city", "Quito", "-0.18", "-78.47")
    assert (again.returncode, again.stdout.strip()) == (0, f"quito is in {tmp_path / 'locations.jsonl'} already: nothing to do")
    other = weir(tmp_path, "add-city", "Quito", "1", "1")
    assert (other.returncode, "Choose another --key for the new city" in other.stderr) == (1, True)
    assert len((tmp_path / "locations.jsonl").read_text().splitlines()) == 5


def test_producer_starts_without_spark(tmp_path: Path) -> None:
    heavy = "{'pyspark', 'pyarrow', 'duckdb'}"
    code = f"import sys, producers.publish, producers.cli, producers.kafka_writer; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("produce", "kaggle", "--partial"), 2, "kaggle is published from dumps: give either --dump PATH or --download"),
        (("produce", "kaggle", "--dump", "x", "--download"), 2, "give either --dump PATH or --download"),
        (("produce", "kaggle", "--dump", "x", "--once"), 2, "--speed and --once are for sources that are polled"),
        (("produce", "open-meteo", "--dump", "x"), 2, "open-meteo is polled, not published from dumps: leave out --dump"),
        (("produce", "open-meteo", "--partial"), 2, "open-meteo is polled"),
        (("produce", "kaggle", "--dump", "x", "--run-date", "soon"), 2, "--run-date 'soon' is no day (YYYY-MM-DD) and no instant"),
        (("produce", "kaggle", "--dump", "x"), 1, "no Kafka: run `weir up --services-only` or set WEIR_KAFKA_BOOTSTRAP"),
    ],
)
def test_dump_that_cannot_be_published_says_so_and_how(tmp_path: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = weir(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
