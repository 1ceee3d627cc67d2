"""Does an operator hear within a minute and a half what is late, and where? A whole stack with Debian's Prometheus and Alertmanager.

Eight faults are injected into the running stack; each time the webhook must name the stage. Every query of every dashboard is asked of
the same Prometheus.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from deploy.local.agent.processes import free_ports
from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from deploy.local.services.prometheus_server import RULES, tool
from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.storage.files import locked, replace_file
from lakehouse.storage.folders import LocalFolder
from monitoring.grafana.boards import BOARDS
from monitoring.metrics import described
from streaming.query_states import read_states
from tests.kaggle.dumps import messages
from tests.kaggle.published import publish
from tests.support.alerting import Receivers, receivers
from tests.support.pipeline import reading, write_locations
from tests.support.services import Kafka
from tests.system.test_kaggle import FIRST

# Within which the webhook must have named the stage.
SECONDS = 90
BACK_SECONDS = 150
PLACES = ("hanoi", "danang", "hue")
DISK = 1_400  # MiB


@dataclass
class Stack:
    """A home with everything that `weir up --with-prometheus` starts."""

    home: Path
    environment: dict[str, str]
    heard: Receivers
    api: OpenMeteoServer
    hold: Path
    is_disk: bool
    given: int = 0

    def weir(self, *arguments: str, more: dict[str, str] | None = None) -> str:
        command = [sys.executable, "-m", "weir", *arguments]
        environment = os.environ | self.environment | (more or {})
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def state(self, part: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / f"{part}.json").read_text())
        return found

    @property
    def kafka(self) -> str:
        return str(self.state("kafka")["address"])

    def process(self, part: str) -> psutil.Process:
        return psutil.Process(self.state(part)["pid"])

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.state('prometheus')['address']}/api/v1/query", params={"query": query}, timeout=30).json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def give(self, rows: int = 20, **broken: Value) -> None:
        """Publish new hours of a place, far from those that are polled."""
        producer = Producer({"bootstrap.servers": self.kafka, "partitioner": "murmur2_random"})
        for hour in range(self.given, self.given + rows):
            record: dict[str, Value] = {**reading("hue", hour), **broken}
            producer.produce(HOURLY.topic, HOURLY.encode(record), key=HOURLY.encode_key(record))
        self.given += rows
        assert producer.flush(30) == 0

    def until_named(self, name: str, stage: str, what: str, **labels: str) -> None:
        """Wait until the webhook has heard of an alert with a stage."""
        wanted = {"stage": stage, **labels}
        self.heard.until(
            lambda all_: any(one.name == name and wanted.items() <= one.labels.items() for one in all_.firing()), SECONDS, what
        )

    def until_quiet(self, *names: str) -> None:
        """Wait until some alerts are over, so that the next fault is seen by itself."""
        self.heard.until(lambda all_: not any(one.name in names for one in all_.firing()), BACK_SECONDS, f"the end of {names}")


def mounted(folder: Path) -> bool:
    """Give a folder a small disk of its own; whether this machine may."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)]
    return bool(shutil.which("mount")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("monitored")
    home = folder / "home"
    home.mkdir()
    is_disk = mounted(home)
    write_locations(home, PLACES)
    with receivers() as heard, OpenMeteoServer() as api:
        (smtp_host, _, smtp_port) = heard.smtp.partition(":")
        config = (RULES / "alertmanager.yml").read_text()
        both = f"""
    webhook_configs: [{{url: '{heard.url}', send_resolved: true}}]
    email_configs: [{{to: operator@example.org, require_tls: false, send_resolved: false}}]
"""
        config = config.replace("  - name: nobody\n", f"  - name: nobody{both}", 1).replace("group_interval: 1m", "group_interval: 5s")
        config = f"global: {{smtp_smarthost: '{smtp_host}:{smtp_port}', smtp_from: weir@example.org}}\n{config}"
        (folder / "alertmanager.yml").write_text(config)
        environment = {
            "WEIR_HOME": str(home),
            "WEIR_ALERTMANAGER_CONFIG": str(folder / "alertmanager.yml"),
            "WEIR_OPEN_METEO_URL": api.url,
            "WEIR_POLL_MINUTES": "0.1",
            "WEIR_BUDGET_PATH": str(folder / "budget.db"),
            "WEIR_BUDGET_PER_DAY": "1000000",
            "WEIR_SPARK_DRIVER_MEMORY": "1g",
            "WEIR_MAINTAIN_HOURS": "0",
            "WEIR_FAILPOINT": f"silver.merged@{folder / 'hold'}",
        }
        stack = Stack(home, environment, heard, api, folder / "hold", is_disk)
        try:
            stack.weir("up", "--with-prometheus")
            publish(Kafka(stack.kafka), messages([FIRST]))
            stack.give()
            yield stack
        finally:
            stack.hold.unlink(missing_ok=True)
            for part in ("kafka", "producer"):
                with contextlib.suppress(OSError, psutil.Error, KeyError):
                    stack.process(part).resume()
            stack.weir("down")
            if is_disk:
                subprocess.run(["umount", str(home)], check=True)


def test_nothing_is_late_and_nothing_fires_in_a_loaded_stack(stack: Stack) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not (stack.ask('sum(weir_objective_met{domain="air_quality"}) > 0') and stack.ask("sum(weir_late_stage) == 0")):
        assert time.monotonic() < deadline, stack.ask("weir_late_stage == 1")
        stack.give(2)
        time.sleep(2)
    status = json.loads(stack.weir("status", "--json"))
    assert {one["objective"]: (one["is_met"], one["late_stage"]) for one in status["objectives"]}["air_quality gold"] == (True, None)
    assert {"prometheus", "alertmanager"} <= {one["part"] for one in status["parts"] if one["state"] == "up"}


def test_the_page_has_every_metric_in_a_form_that_prometheus_accepts(stack: Stack) -> None:
    text = requests.get(stack.state("metrics")["address"], timeout=30).text
    done = subprocess.run([str(tool("promtool")), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    shown = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    # A counter of labels that never occurred is not on the page.
    assert {name for name, kind, _, _ in described() if kind != "counter"} <= shown


@pytest.mark.parametrize("board", BOARDS, ids=lambda one: one.uid)
def test_every_query_of_a_dashboard_has_an_answer(stack: Stack, board: Any) -> None:  # noqa: ANN401 - of the declarations
    text = (RULES.parent / "grafana" / "dashboards" / f"{board.uid}.json").read_text()
    targets = [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]
    declared = [query for row in board.rows for panel in row.panels for query in panel.queries]
    assert targets == [query.expr for query in declared]
    deadline = time.monotonic() + 60
    for query in declared:
        expr = query.expr
        for variable in board.variables:
            metric, label = variable.query.removeprefix("label_values(").removesuffix(")").split(", ")
            assert stack.ask(f"count by ({label}) ({metric})"), variable
            expr = expr.replace(f'"${variable.name}"', '".*"')
        # Rates need two samples, and ages of a poll the first poll.
        while not (found := stack.ask(expr)) and query.needs == "always":
            assert time.monotonic() < deadline, (board.uid, expr)
            stack.give(2)
            time.sleep(2)
        for series in found:
            assert all(label in series["metric"] for label in re.findall(r"\{\{(\w+)\}\}", query.legend)), (expr, series)


def test_a_late_upstream_a_lost_city_and_a_full_disk_are_told_apart(stack: Stack) -> None:
    polls = stack.home / "state" / "open-meteo.polls.json"
    with locked(polls):
        noted = json.loads(polls.read_text())
        noted["upstream_changed"] = (datetime.now(UTC) - timedelta(hours=60)).isoformat()
        replace_file(polls, json.dumps(noted))

    def without_hue(answer: Any) -> Any:  # noqa: ANN401 - the API's JSON
        several = answer if isinstance(answer, list) else [answer]
        changed = [{"error": True} if abs(one["latitude"] - places["hue"]) < 0.3 else one for one in several]
        return changed if isinstance(answer, list) else changed[0]

    places = {line["location_key"]: line["latitude"] for line in map(json.loads, (stack.home / "locations.jsonl").read_text().splitlines())}
    stack.api.always(Fault(change=without_hue))
    filling = stack.home / "filling"
    if stack.is_disk:
        free = shutil.disk_usage(stack.home).free
        with filling.open("wb") as file:
            for _ in range((free - DISK * 2**20 // 14) // 2**20):
                file.write(bytes(2**20))
    try:
        stack.until_named("UpstreamLate", "upstream", "a source that has not published its next run", source="open-meteo")
        stack.until_named("PlacesFailing", "producer", "a poll that loses one city", source="open-meteo")
        if stack.is_disk:
            stack.until_named("DiskFull", "machine", "a disk that fills up")
    finally:
        stack.api.always(None)
        filling.unlink(missing_ok=True)
    stack.until_quiet("PlacesFailing", "DiskFull", "StageLate")


def test_a_producer_that_hangs_is_named(stack: Stack) -> None:
    producer = stack.process("producer")
    producer.suspend()
    try:
        stack.until_named("ProducerLate", "producer", "a dead producer", source="open-meteo")
        stack.until_named("StageLate", "producer", "a dead producer, as the stage that is late", domain="air_quality")
    finally:
        producer.resume()
    stack.until_quiet("ProducerLate", "StageLate")


def test_kafka_that_does_not_answer_is_named_and_not_what_waits_for_it(stack: Stack) -> None:
    broker = stack.process("kafka")
    broker.suspend()
    try:
        stack.until_named("KafkaUnreachable", "kafka", "a broker that does not answer")
        assert {one.labels["stage"] for one in stack.heard.firing() if one.name == "StageLate"} <= {"kafka"}
    finally:
        broker.resume()
    stack.until_quiet("KafkaUnreachable", "StageLate")


def test_gold_that_is_slow_is_named_and_not_silver(stack: Stack) -> None:
    stack.hold.touch()
    stack.give()
    try:
        stack.until_named("StageLate", "gold", "gold that is slow", domain="air_quality")
    finally:
        stack.hold.unlink()
    stack.until_quiet("StageLate")


def test_bronze_and_silver_that_have_stopped_are_named_for_their_domains(stack: Stack) -> None:
    # Of one domain somebody has altered a topic, which the driver sees within a minute; of the other most rows break a rule.
    altered = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, kaggle("names").topics[0], incremental_configs=[altered])
    admin = AdminClient({"bootstrap.servers": stack.kafka})  # it must outlive the call
    admin.incremental_alter_configs([topic])[topic].result(30)
    stack.give(150, location_key="atlantis")
    deadline = time.monotonic() + SECONDS
    while not any(one.state == "stopped" for one in read_states(LocalFolder(stack.home / "state"), "kaggle")):
        assert time.monotonic() < deadline, "bronze of kaggle has not stopped"
        time.sleep(0.5)
    stack.until_named("StageLate", "bronze", "a query of bronze that has stopped", domain="kaggle")
    stack.until_named("StageLate", "silver", "silver that the breaker has stopped", domain="air_quality")
    status = json.loads(stack.weir("status", "--json"))
    assert {one["domain"]: one["late_stage"] for one in status["objectives"]} == {"air_quality": "silver", "kaggle": "bronze"}


def test_what_was_heard_came_by_mail_too_with_the_next_step(stack: Stack) -> None:
    assert any("KafkaUnreachable" in str(mail["Subject"]) for mail in stack.heard.mails)
    for one in stack.heard.heard:
        assert {"summary", "action", "runbook"} <= set(one.annotations)
        assert (RULES.parents[1] / one.annotations["runbook"]).is_file()


def test_a_batch_program_says_how_it_ended(stack: Stack, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    gateway = subprocess.Popen([str(tool("pushgateway")), f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=1).ok:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        told = {"WEIR_PUSHGATEWAY": f"127.0.0.1:{port}", "WEIR_METRICS_TEXTFILE": str(tmp_path)}
        stack.weir("check", "kaggle", more=told)
        pushed = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        assert 'weir_batch_succeeded{domain="kaggle",instance="",job="weir-batch",verb="check"} 1' in pushed
        text = (tmp_path / "weir-check-kaggle.prom").read_text()
        assert 'weir_batch_succeeded{domain="kaggle",verb="check"} 1.0' in text
        done = subprocess.run([str(tool("promtool")), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        # Where nobody takes it, the program ends as it would.
        stack.weir("check", "kaggle", more={"WEIR_PUSHGATEWAY": "127.0.0.1:9", "WEIR_METRICS_TEXTFILE": str(tmp_path / "none")})
    finally:
        gateway.terminate()
        gateway.wait(10)
