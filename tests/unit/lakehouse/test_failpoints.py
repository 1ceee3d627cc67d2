import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
from lakehouse import failpoints
failpoints.arm(sys.argv[1], [])
for n in range(1, 5):
    print(n, flush=True)
    failpoints.reach("silver.merged")
    failpoints.reach("gold.merged")
"""


def run(spec: str, *, victims: str = "[]") -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("[]", victims)
    return subprocess.run([sys.executable, "-c", program, spec], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("spec", "passed"), [("silver.merged", 1), ("gold.merged:3", 3)])
def test_armed_point_kills_the_process_the_nth_time(spec: str, passed: int) -> None:
    ran = run(spec)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stdout.split() == [str(n) for n in range(1, passed + 1)]


@pytest.mark.parametrize("spec", ["", "bronze.committed", "gold.merged:9"])
def test_point_that_is_not_armed_or_not_reached_does_nothing(spec: str) -> None:
    ran = run(spec)
    assert (ran.returncode, ran.stdout.split()) == (0, ["1", "2", "3", "4"])


def test_what_the_process_drives_dies_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as driven:
        assert run("silver.merged", victims=f"[{driven.pid}]").returncode == -signal.SIGKILL
        assert driven.wait(timeout=10) == -signal.SIGKILL


def test_a_point_holds_while_a_file_exists_each_time_it_is_reached(tmp_path: Path) -> None:
    file = tmp_path / "hold"
    file.touch()
    program = [sys.executable, "-c", PROGRAM, f"silver.merged@{file}"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        file.unlink()
        assert process.wait(30) == 0
        assert process.stdout.read().split() == ["2", "3", "4"]
