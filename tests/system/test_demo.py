"""Does `weir demo` show what it promises, and leave nothing but its data?"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.agent.run_files import read_state
from tests.support.checkouts import checked_out, make
from tests.support.foreign import EVERY_SIGN, foreign_shell
from tests.support.forward_proxy import ForwardProxy

# On two free cores it takes a minute and a half; beside other tests several times that.
MOST_SECONDS = 900


# Java finds classes below a folder of this name; below one with a colon, an exclamation mark or an emoji it does not (`tests/long`).
NAME = EVERY_SIGN.replace("!", "").replace(":", "").replace("😀", "")


def in_checkout(clone: Path, *arguments: str, **shell: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **shell}
    return subprocess.run(
        [".venv/bin/weir", *arguments], cwd=clone, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def weir(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "weir", *arguments]
    environment = {**os.environ, "WEIR_HOME": str(home)}
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
def test_newcomer_with_any_folder_another_spark_and_a_proxy_sees_the_demo_keep_every_promise(tmp_path: Path) -> None:
    clone, scratch = checked_out(tmp_path / NAME), tmp_path / f"TMPDIR {EVERY_SIGN}"
    home = clone / ".weir"
    scratch.mkdir()
    with ForwardProxy(tmp_path / "proxy") as proxy:
        shell = foreign_shell(tmp_path / "shell", proxy.url) | {"JAVA_TOOL_OPTIONS": "-Dfile.encoding=ISO-8859-1", "TMPDIR": str(scratch)}
        done = make(clone, "demo", shell | {"LC_ALL": "C"})
        said = done.stdout
        assert done.returncode == 0, said[-3000:] + done.stderr[-3000:]
        asked = proxy.requests()
    assert any(request.startswith("CONNECT") for request in asked), "the packages come through the proxy"
    assert not [request for request in asked if "127.0.0.1" in request or "localhost" in request], "what is on the loopback does not"

    assert re.search(r"^back in \d+ s, 0 lost, 0 doubled$", said, re.MULTILINE)
    at_the_kill = re.search(r"at that moment: Kafka ([\d,]+) hours · bronze ([\d,]+) · silver .* ([\d,]+) days", said)
    assert at_the_kill is not None
    assert int(at_the_kill[2].replace(",", "")) > 0
    assert int(at_the_kill[3].replace(",", "")) < 1_032
    assert "998 of 1,002 city-days agree with the independent results (99.6%), 181 of 181 episodes" in said
    assert re.search(r"^2025-09-20 00:00 +143\.0 +130\.9 ", said, re.MULTILINE)
    assert "\n  .venv/bin/weir query\n" in said

    assert processes_of(home) == []
    assert not (home / "run/tmp").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, scratch.name, "proxy", "shell"]), "nothing is made beside them"
    assert not (tmp_path / "shell/elsewhere").exists()

    # Its dead proxy and its JVM option, with which no Java starts, have no say either.
    shell = foreign_shell(tmp_path / "another") | {"TMPDIR": str(scratch)}
    question = "SELECT count(*) AS days, any_value(aqi_rule) AS rule FROM gold.fact_city_daily"
    counted = in_checkout(clone, "query", "--json", question, **shell)
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout) == [{"days": 1_032, "rule": "us-epa-2012"}]
    revised = in_checkout(clone, "query", "--json", "SELECT pm25 FROM silver.air_quality_hourly_clean WHERE ts_utc = '2025-09-20'")
    assert json.loads(revised.stdout) == [{"pm25": 130.9}]
    proved = in_checkout(clone, "prove", "--json", **shell)
    assert proved.returncode == 0, proved.stderr[-3000:]
    assert "files have the size and the number of rows in their manifests" in in_checkout(clone, "doctor", "--files").stdout
    shutil.rmtree(clone)


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
