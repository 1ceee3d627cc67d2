"""Has each alert a page, a case in which it fires and one in which it does not? And are the dashboards those that are declared?"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.errors import MissingPrometheus
from deploy.local.services import prometheus_server
from deploy.local.services.prometheus_server import RULES, alertmanager_command, prometheus_command, prometheus_config, tool
from lakehouse.settings import Settings
from monitoring.grafana.boards import BOARDS
from monitoring.grafana.build import FOLDER, as_json
from monitoring.metrics import described
from monitoring.objectives import STAGES

REPOSITORY = Path(__file__).parents[3]
RUNBOOKS = REPOSITORY / "docs/runbooks"
TESTS = RULES / "tests" / "alerts.test.yml"
# Of Prometheus itself, of Spark's executors, and of batch programs.
FOREIGN = re.compile(r"up|ALERTS|metrics_executor_\w+|weir_batch_\w+")


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((RULES / file).read_text())["groups"] for rule in group["rules"]]


ALERTS = rules("alerts.rules.yml")


def promtool(*arguments: str) -> None:
    done = subprocess.run([str(tool("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_well_formed_and_every_case_is_as_expected() -> None:
    promtool("check", "rules", *map(str, sorted(RULES.glob("*.rules.yml"))))
    promtool("test", "rules", str(TESTS))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one["alert"])
def test_each_alert_has_a_runbook_and_a_case_of_each_kind(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["labels"].get("stage", "gold") in (*STAGES, "machine")
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["What it means", "How to look", "What to do"]
    assert f"`{alert['expr']}`" in page
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "README.md").read_text()
    cases = [case["alert_rule_test"][0] for case in yaml.safe_load(TESTS.read_text())["tests"]]
    assert sorted(bool(case["exp_alerts"]) for case in cases if case["alertname"] == name) == [False, True]


def test_no_runbook_is_without_its_alert() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"README"} == {alert["alert"] for alert in ALERTS}


def test_rules_and_dashboards_ask_only_for_metrics_that_exist() -> None:
    known = {name for name, *_ in described()} | {rule["record"] for rule in rules("recording.rules.yml")}
    known |= {f"{name}_{part}" for name, kind, _, _ in described() if kind == "histogram" for part in ("bucket", "sum", "count")}
    queries = [rule["expr"] for rule in (*ALERTS, *rules("recording.rules.yml"))]
    queries += [query.expr for board in BOARDS for row in board.rows for panel in row.panels for query in panel.queries]
    named = {name for query in queries for name in re.findall(r"\b(?:\w+:)?weir_\w+(?::\w+)?|\bmetrics_executor_\w+", query)}
    assert {name for name in named if name not in known and not FOREIGN.fullmatch(name)} == set()


@pytest.mark.parametrize("board", BOARDS, ids=lambda one: one.uid)
def test_the_committed_dashboard_is_the_declared_one(board: Any) -> None:  # noqa: ANN401 - of the declarations
    assert (FOLDER / f"{board.uid}.json").read_text() == as_json(board), "run: python -m monitoring.grafana.build"
    panels = [panel for panel in json.loads(as_json(board))["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        for link in panel.get("links") or ():
            assert (RUNBOOKS / link["url"].removeprefix("${runbooks}/")).is_file()


def test_no_dashboard_is_left_over_and_each_links_to_the_others() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == {board.uid for board in BOARDS}
    assert len({board.uid for board in BOARDS}) == len(BOARDS)
    assert all(json.loads(as_json(board))["links"][0]["tags"] == ["weir"] for board in BOARDS)


def test_provisioning_names_what_is_there() -> None:
    provider = yaml.safe_load((FOLDER.parent / "provisioning/dashboards/weir.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == "$WEIR_REPOSITORY/monitoring/grafana/dashboards"
    source = yaml.safe_load((FOLDER.parent / "provisioning/datasources/weir.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus"


def test_configurations_are_accepted(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    prometheus_command(settings, 9090, "127.0.0.1:9464", "127.0.0.1:9093")
    promtool("check", "config", str(tmp_path / "prometheus/prometheus.yml"))
    assert prometheus_config("page:1", "am:2")["scrape_configs"][1]["http_sd_configs"][0]["url"] == "http://page:1/targets"
    alertmanager_command(settings, 9093)
    assert (tmp_path / "prometheus/alertmanager.yml").read_text() == (RULES / "alertmanager.yml").read_text()
    for file in ("alertmanager.yml", "alertmanager.example.yml"):
        done = subprocess.run([str(tool("amtool")), "check-config", str(RULES / file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    shipped, example = (yaml.safe_load((RULES / file).read_text()) for file in ("alertmanager.yml", "alertmanager.example.yml"))
    assert example["inhibit_rules"] == shipped["inhibit_rules"]


def test_a_program_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prometheus_server, "TOOLS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPrometheus, match="There is no promtool: `make setup`"):
        tool("promtool")
