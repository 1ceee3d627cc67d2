"""Do `weir up`, `status` and `down` keep their word with real processes?"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local.agent.processes import ProcessKey
from deploy.local.agent.run_files import PartName, metrics_folder, read_state, strays
from lakehouse.settings import Settings
from tests.support.services import Kafka


@dataclass(slots=True)
class Home:
    """One copy of weir: its folder, and the command run for it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def weir(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, "WEIR_HOME": str(self.folder)}
        command = [sys.executable, "-P", "-m", "weir", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)

    def up(self) -> None:
        done = self.weir("up", "--services-only")
        assert done.returncode == 0, done.stderr

    def parts(self) -> dict[str, dict[str, Any]]:
        done = self.weir("status", "--json")
        assert done.returncode == 0, done.stderr
        return {part["part"]: part for part in json.loads(done.stdout)["parts"]}

    def pid(self, part: PartName) -> int:
        state = read_state(self.folder / "run", part)
        assert state is not None
        assert state.pid is not None
        return state.pid

    def processes(self) -> list[int]:
        return [process.pid for process in strays(Settings(home=self.folder))]


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def make(name: str = "home", **environment: str) -> Home:
        homes.append(Home(tmp_path / name, environment))
        return homes[-1]

    yield make
    for home in homes:
        home.weir("down")
        assert home.processes() == []


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.1)


def test_services_come_up_are_shown_and_go_down_without_a_trace(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    parts = home.parts()
    assert {name: part["state"] for name, part in parts.items()} == {
        "kafka": "up",
        "stream": "down",
        "producer": "down",
        "producer-kaggle": "off",
        "metrics": "up",
    }
    assert parts["kafka"]["since"].endswith("Z")
    Kafka(parts["kafka"]["address"]).create_topic("air-quality.hourly.v1", 2)

    page = urllib.request.urlopen(parts["metrics"]["address"], timeout=10).read().decode()
    assert 'weir_part_up{part="kafka"} 1.0' in page
    listening = {c.laddr.ip for pid in home.processes() for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

    again = home.weir("up", "--services-only")
    assert "weir is already up; nothing was started." in again.stderr
    assert home.parts()["kafka"]["pid"] == parts["kafka"]["pid"]

    down = home.weir("down")
    stopped = [f"stopped kafka (process {parts['kafka']['pid']})", f"stopped agent and metrics (process {parts['metrics']['pid']})"]
    assert down.stdout.splitlines() == stopped
    assert home.processes() == []
    assert "nothing runs for" in home.weir("down").stdout


def test_broker_that_was_killed_comes_back_on_its_port(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    before = home.parts()["kafka"]
    os.kill(before["pid"], signal.SIGKILL)
    eventually(lambda: (state := read_state(home.folder / "run", "kafka")) is not None and state.restarts == 1 and state.condition == "up")
    after = home.parts()["kafka"]
    assert (after["address"], after["restarts"], after["pid"] != before["pid"]) == (before["address"], 1, True)
    assert after["says"].startswith("was killed by signal 9; the last line of its log: ")


def test_down_stops_everything_after_the_agent_was_killed(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    kafka = ProcessKey.of(home.pid("kafka"))
    os.kill(home.pid("agent"), signal.SIGKILL)
    assert home.parts()["metrics"]["state"] == "stale"
    assert f"stopped kafka (process {kafka.pid})" in home.weir("down").stdout
    assert not kafka.alive()


def test_up_after_the_agent_was_killed_takes_over_the_broker_and_says_so(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    kafka, agent = home.pid("kafka"), home.pid("agent")
    os.kill(agent, signal.SIGKILL)
    done = home.weir("up", "--services-only")
    assert done.returncode == 0
    assert f"agent is not running: {home.folder}/run/agent.json names process {agent}, which has ended unexpectedly" in done.stderr
    assert home.pid("kafka") == kafka
    assert "took over" in (home.folder / "logs" / "agent.log").read_text()


def test_sigterm_to_the_agent_stops_its_parts(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    os.kill(home.pid("agent"), signal.SIGTERM)
    eventually(lambda: home.processes() == [])
    assert {part["state"] for part in home.parts().values()} == {"down", "off"}


def test_process_that_no_file_names_is_found_and_killed(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    marked = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder(Settings(home=home.folder)))}
    lost = subprocess.Popen(["sleep", "300"], env=marked, start_new_session=True)
    try:
        assert "killed 1 process(es) of this home that had no state file" in home.weir("down").stdout
        assert lost.wait(10) == -signal.SIGKILL
    finally:
        lost.kill()


def test_two_homes_run_side_by_side(new_home: Callable[..., Home]) -> None:
    one, other = new_home("one"), new_home("other")
    one.up()
    other.up()
    addresses = {home.parts()[part]["address"] for home in (one, other) for part in ("kafka", "metrics")}
    assert len(addresses) == 4
    one.weir("down")
    assert other.parts()["kafka"]["state"] == "up"


def test_port_in_use_is_one_sentence_and_starts_nothing(new_home: Callable[..., Home]) -> None:
    one = new_home("one")
    one.up()
    port = one.parts()["kafka"]["address"].rpartition(":")[2]
    other = new_home("other", WEIR_KAFKA_PORT=port)
    done = other.weir("up", "--services-only")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"weir: Kafka cannot listen on 127.0.0.1:{port}: the port is in use by java (process {one.pid('kafka')}). "
    )
    assert other.processes() == []


def test_half_formatted_kafka_folder_is_one_sentence_on_the_way_up(new_home: Callable[..., Home]) -> None:
    home = new_home()
    home.up()
    home.weir("down")
    (home.folder / "kafka" / "data" / "meta.properties").unlink()
    done = home.weir("up", "--services-only")
    assert done.returncode == 1
    assert done.stderr.startswith(f"weir: Kafka's folder {home.folder}/kafka/data is half-formatted: it has data, but no meta.properties.")
    assert "half-formatted" in home.weir("doctor").stdout
