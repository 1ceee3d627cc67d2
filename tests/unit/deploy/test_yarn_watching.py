"""What does the edge node's page tell of a cluster, and how does it stay with an application? Against a prepared ResourceManager."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import typer

from deploy.local.agent.processes import free_ports
from deploy.yarn.application_conf import Resources
from deploy.yarn.errors import NoYarn, UnknownQueue
from deploy.yarn.submit import streaming
from deploy.yarn.waiting import follow, running_streams
from deploy.yarn.watching import cluster_facts, scrape_targets
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from monitoring.cluster import Application
from monitoring.metrics import TARGETS_PATH, serve
from streaming.cli import ready_file
from streaming.query_states import states_file
from tests.support.resource_manager import APP, Answers, described, resource_manager

TAGS = "weir,weir-stream-air_quality,weir-stream-kaggle"
QUEUE = {"type": "fifoScheduler", "usedCapacity": 50.0, "qstate": "RUNNING"}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with resource_manager(tmp_path):
        Answers.scheduler = QUEUE
        yield Settings(home=tmp_path, hadoop_conf_dir=str(tmp_path), spark_master="yarn")


def driver_says(settings: Settings, application: str, metrics: str) -> None:
    held = {"domain": "air_quality", "queries": [], "application": application, "metrics": metrics}
    text = json.dumps({**held, "written_ts": datetime.now(UTC).isoformat()})
    open_folder(settings.state_uri).write(states_file("air_quality"), text)


def test_prometheus_finds_the_driver_where_it_is_now_and_the_executors_by_the_manager(settings: Settings) -> None:
    Answers.apps = [described(1, "RUNNING", applicationTags=TAGS), described(2, "ACCEPTED", applicationTags=TAGS)]
    driver_says(settings, APP, "node-7:4711")
    driver, executors = scrape_targets(settings)
    assert driver["targets"] == ["node-7:4711"]
    assert driver["labels"] == {"domains": "air_quality,kaggle", "__meta_weir_application": APP, "component": "driver"}
    assert executors["labels"]["__metrics_path__"] == f"/proxy/{APP}/metrics/executors/prometheus"
    driver_says(settings, APP, "node-8:4712")
    assert scrape_targets(settings)[0]["targets"] == ["node-8:4712"]


def test_what_a_driver_of_an_ended_application_left_behind_is_no_target(settings: Settings) -> None:
    driver_says(settings, "application_1600000000000_0001", "node-7:4711")
    assert scrape_targets(settings) == []
    Answers.apps = [described(1, "RUNNING", applicationTags=TAGS)]
    assert [one["labels"]["component"] for one in scrape_targets(settings)] == ["executors"]


def test_without_a_cluster_there_are_no_targets_and_no_facts(tmp_path: Path) -> None:
    assert scrape_targets(Settings(home=tmp_path)) == []
    assert cluster_facts(Settings(home=tmp_path)) is None


def test_facts_are_the_queue_and_the_application_of_each_domain(settings: Settings) -> None:
    Answers.apps = [described(1, "RUNNING", applicationTags="weir,weir-stream-kaggle")]
    facts = cluster_facts(settings)
    assert facts is not None
    assert (facts.queue, facts.queue_used) == ("default", 0.5)
    assert facts.applications == {"air_quality": Application(), "kaggle": Application(True, 2, 4_096 * 2**20)}


def test_a_queue_that_is_not_there_is_said_with_those_that_are(settings: Settings) -> None:
    with pytest.raises(UnknownQueue, match="'data' does not exist; there are default"):
        cluster_facts(settings.model_copy(update={"yarn_queue": "data"}))


def test_the_page_serves_targets_and_says_when_it_cannot(tmp_path: Path) -> None:
    def fails() -> object:
        raise NoYarn("rm:8088", "refused")

    for targets, code, says in ((lambda: [{"targets": ["a:1"]}], 200, [{"targets": ["a:1"]}]), (fails, 503, None)):
        (port,) = free_ports(1)
        serve(port, tmp_path, targets=targets)
        answer = requests.get(f"http://127.0.0.1:{port}{TARGETS_PATH}", timeout=10)
        assert answer.status_code == code
        assert answer.headers["Content-Type"] == "application/json"
        if says is not None:
            assert answer.json() == says
        assert "python_info" not in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text


def test_who_stays_with_an_application_is_ready_while_it_runs_and_ends_with_its_result(settings: Settings) -> None:
    Answers.apps = [described(1, "ACCEPTED", applicationTags=TAGS)]
    domains = ["air_quality", "kaggle"]
    running = running_streams(settings, domains)
    assert running == dict.fromkeys(domains, APP)
    codes: list[int] = []

    def stay() -> None:
        try:
            follow(settings, streaming(domains, Resources()), running)
        except typer.Exit as end:
            codes.append(end.exit_code)

    ready = ready_file(settings.home / "run", "kaggle")
    thread = threading.Thread(target=stay)
    thread.start()
    time.sleep(0.3)
    assert not ready.exists()
    Answers.apps = [described(1, "RUNNING", applicationTags=TAGS)]
    until(ready.exists)
    Answers.apps = [described(1, "KILLED", "KILLED", applicationTags=TAGS)]
    thread.join(10)
    assert codes == [1]
    assert not ready.exists()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
