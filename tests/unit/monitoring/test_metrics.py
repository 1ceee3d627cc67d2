"""Is there one page for all processes, and does each metric say what it is?"""

import ast
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from deploy.local.agent.processes import free_ports
from monitoring import metrics

PART = """
import sys
from monitoring import metrics
metrics.PRODUCER_MESSAGES.labels(source="open-meteo").inc(int(sys.argv[1]))
metrics.PART_UP.labels(part="kafka").set(int(sys.argv[2]))
"""


def test_page_adds_up_counters_of_all_processes_and_shows_the_last_gauge(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for messages, is_up in (("3", "1"), ("4", "0")):
        subprocess.run([sys.executable, "-c", PART, messages, is_up], env=environment, check=True)
    (port,) = free_ports(1)
    metrics.serve(port, tmp_path)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    assert 'weir_producer_messages_total{source="open-meteo"} 7.0' in page
    assert 'weir_part_up{part="kafka"} 0.0' in page


def test_every_metric_is_named_by_the_rules_and_has_help() -> None:
    described = list(metrics.described())
    assert len({name for name, *_ in described}) == len(described)
    for name, kind, labels, about in described:
        assert re.fullmatch(r"weir(_[a-z]+)+", name)
        assert about
        # promtool's rules: counters end in _total and nothing else does; base units, the unit last.
        assert (kind == "counter") == name.endswith("_total"), name
        assert kind in ("counter", "gauge", "histogram")
        assert not re.search(r"_(ms|milliseconds|minutes?|hours?|days?|kb|percent|count|sum|bucket|info|counter|gauge)(_|$)", name), name
        assert not {"le", "quantile", "id", "batch_id"} & set(labels), name
        if re.search(r"\b(age|time|when)\b", about.lower().split(";")[0].split(",")[0]):
            assert name.endswith("_seconds") or kind == "counter", name


def test_operators_page_has_every_metric_with_its_labels_once() -> None:
    page = (Path(__file__).parents[3] / "docs/operating.md").read_text()
    rows = re.findall(r"^\| `(weir_\w+)(?:\{([a-z,]+)\})?` \| (.+) \| (.*)\|$", page, re.MULTILINE)
    told = [(name, tuple(labels.split(",")) if labels else ()) for name, labels, *_ in rows]
    assert sorted(told) == sorted((name, labels) for name, _, labels, _ in metrics.described())


def test_every_module_that_uses_a_metric_gives_it_the_labels_it_was_declared_with() -> None:
    # A wrong number of labels raises only when the line runs, which may be in the middle of an outage.
    declared = {name: value._labelnames for name, value in vars(metrics).items() if value in metrics.DECLARED}
    root = Path(__file__).parents[3]
    used = 0
    for folder in ("streaming", "producers", "deploy"):
        for file in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "labels":
                    owner = node.func.value
                    name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
                    used += 1
                    given = [keyword.arg for keyword in node.keywords]
                    assert len(node.args) + len(given) == len(declared[name]), f"{file}:{node.lineno}"
                    assert set(given) <= set(declared[name]), f"{file}:{node.lineno}"
    assert used >= len(declared)
