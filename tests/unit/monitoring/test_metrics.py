"""Is there one page for all processes, and does each metric say what it is?"""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from deploy.local.processes import free_ports
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
    declared = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)]
    assert declared
    for metric in declared:
        (described,) = metric.describe()
        name = described.name
        assert re.fullmatch(r"weir_[a-z_]+", name)
        assert described.documentation
        # prometheus_client itself appends _total to the name of a counter.
        assert not (isinstance(metric, Gauge) and name.endswith("_total"))
