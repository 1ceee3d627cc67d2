"""Does `weir demo` show what it promises, and leave nothing but its data?"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.state import read_state
from tests.foreign import EVERY_SIGN, foreign_shell

# On two free cores it takes a minute and a half; beside other tests several times that.
MOST_SECONDS = 900


def weir(home: Path, *arguments: str, **shell: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "weir", *arguments]
    environment = {**os.environ, **shell, "WEIR_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)


def processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WEIR_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(MOST_SECONDS)
def test_demo_keeps_every_promise_in_a_shell_and_folders_of_any_kind(tmp_path: Path) -> None:
    home, scratch = tmp_path / EVERY_SIGN, tmp_path / f"TMPDIR {EVERY_SIGN}"
    scratch.mkdir()
    shell = {**foreign_shell(tmp_path / "shell"), "TMPDIR": str(scratch), "LC_ALL": "C"}
    done = weir(home, "demo", **shell)
    said = done.stdout
    assert done.returncode == 0, said[-3000:] + done.stderr[-3000:]

    assert re.search(r"^back in \d+ s, 0 lost, 0 doubled$", said, re.MULTILINE)
    at_the_kill = re.search(r"at that moment: Kafka ([\d,]+) hours · bronze ([\d,]+) · silver .* ([\d,]+) days", said)
    assert at_the_kill is not None
    assert int(at_the_kill[2].replace(",", "")) > 0
    assert int(at_the_kill[3].replace(",", "")) < 1_032
    assert "998 of 1,002 city-days agree with the independent results (99.6%), 181 of 181 episodes" in said
    assert re.search(r"^2025-09-20 00:00 +143\.0 +130\.9 ", said, re.MULTILINE)
    assert f"WEIR_HOME={shlex.quote(str(home))} " in said

    assert processes_of(home) == []
    assert not (home / "run/tmp").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([home.name, scratch.name, "shell"]), "nothing is made beside them"
    assert not (tmp_path / "shell/elsewhere").exists()

    question = "SELECT count(*) AS days, any_value(aqi_rule) AS rule FROM gold.fact_city_daily"
    counted = weir(home, "query", "--json", question, **shell)
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout) == [{"days": 1_032, "rule": "us-epa-2012"}]
    revised = weir(home, "query", "--json", "SELECT pm25 FROM silver.air_quality_hourly_clean WHERE ts_utc = '2025-09-20'")
    assert json.loads(revised.stdout) == [{"pm25": 130.9}]
    proved = weir(home, "prove", "--json", **shell)
    assert proved.returncode == 0, proved.stderr[-3000:]
    files = weir(home, "doctor", "--files")
    assert "files have the size and the rows that their manifests say" in files.stdout


@pytest.mark.timeout(300)
def test_demo_that_is_told_to_stop_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**os.environ, "WEIR_HOME": str(home)}
    demo = subprocess.Popen([sys.executable, "-P", "-m", "weir", "demo"], env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 200
        while (state := read_state(home / "run", "stream")) is None or not state.alive:
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert f"Another demo runs in {home}" in weir(home, "demo").stderr
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(90) == 128 + signal.SIGTERM
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
            weir(home, "down")
    assert processes_of(home) == []
    assert [read_state(home / "run", part) for part in ("kafka", "stream")] == [None, None]
