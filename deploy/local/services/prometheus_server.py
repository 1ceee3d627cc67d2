"""How does one machine get a Prometheus and an Alertmanager? From Debian's programs, which `make setup` unpacks into .tools.

    HOME/prometheus/prometheus.yml     scrape targets (the metrics page, drivers on YARN) and the rules of `monitoring/prometheus`
    HOME/prometheus/data/              its series, fifteen days
    HOME/prometheus/alertmanager.yml   a copy of the configuration that Alertmanager runs with
    HOME/prometheus/alertmanager/      its silences

Both listen on the loopback.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from deploy.local.errors import MissingPrometheus
from lakehouse.settings import Settings
from lakehouse.storage.files import replace_file

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = REPOSITORY / ".tools" / "prometheus" / "usr" / "bin"
RULES = REPOSITORY / "monitoring" / "prometheus"
# Debian gives one of them another name.
NAMES = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "amtool": ("amtool",),
    "pushgateway": ("prometheus-pushgateway", "pushgateway"),
}
# An alert must not come minutes late; and the page, asked while Kafka does not answer, takes some seconds.
SCRAPE, EVALUATE = "10s", "5s"
KEPT = "15d"


def tool(name: str) -> Path:
    """Return the path of a program, from .tools or PATH.

    Raises:
        MissingPrometheus: it is in neither.
    """
    for one in NAMES[name]:
        if (own := TOOLS / one).exists():
            return own
        if found := shutil.which(one):
            return Path(found)
    raise MissingPrometheus(name)


def prometheus_config(page: str, alertmanager: str) -> dict[str, Any]:
    """Return the configuration: whom it asks, how often, by which rules, and who hears of alerts.

    Args:
        page: host:port of the metrics page.
        alertmanager: host:port.
    """
    return {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": EVALUATE},
        "rule_files": [str(RULES / "*.rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": "weir", "static_configs": [{"targets": [page]}]},
            {
                "job_name": "weir-yarn",
                "http_sd_configs": [{"url": f"http://{page}/targets", "refresh_interval": "15s"}],
                # One series for all drivers of some domains, wherever they run.
                "relabel_configs": [{"source_labels": ["component", "domains"], "separator": "/", "target_label": "instance"}],
            },
        ],
    }


def prometheus_command(settings: Settings, port: int, page: str, alertmanager: str) -> list[str]:
    """Write its configuration, and return the command that starts it.

    Raises:
        MissingPrometheus: there is no such program.
    """
    folder = settings.home / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    replace_file(folder / "prometheus.yml", json.dumps(prometheus_config(page, alertmanager), indent=1))
    return [
        str(tool("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--storage.tsdb.retention.time={KEPT}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}/",
        "--log.level=warn",
    ]


def alertmanager_command(settings: Settings, port: int) -> list[str]:
    """Copy its configuration, and return the command that starts it.

    Raises:
        MissingPrometheus: there is no such program.
        OSError: the configuration that the settings name cannot be read.
    """
    folder = settings.home / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = Path(settings.alertmanager_config) if settings.alertmanager_config else RULES / "alertmanager.yml"
    replace_file(folder / "alertmanager.yml", chosen.read_text(encoding="utf-8"))
    return [
        str(tool("alertmanager")),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://127.0.0.1:{port}/",
        # One alone: it needs no port for others.
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
