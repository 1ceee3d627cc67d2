"""How do the declared dashboards become files that Grafana reads? `python -m monitoring.grafana.build` writes them beside this file.

The JSON is committed, so that whoever runs Grafana needs none of this; a test compares it with the declarations.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from monitoring.grafana.boards import BOARDS
from monitoring.grafana.panels import Board, Panel

FOLDER = Path(__file__).with_name("dashboards")
RULES = Path(__file__).parents[1] / "prometheus" / "alerts.rules.yml"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Where runbooks are read; a variable of each dashboard, since everyone keeps a checkout elsewhere.
RUNBOOKS = "${runbooks}"
_BUILDERS: dict[str, Any] = {"line": timeseries.Panel, "number": stat.Panel, "table": table.Panel}


def as_json(board: Board) -> str:
    """Return a dashboard as Grafana's JSON."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["weir"])
        .timezone("utc")
        .time("now-1h", "now")
        .refresh("10s")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(dashboard.TextBoxVariable("runbooks").label("address of docs/runbooks").default_value("docs/runbooks"))
        .link(
            dashboard.DashboardLink("weir")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["weir"])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(False)
        )
    )
    for variable in board.variables:
        built.with_variable(
            dashboard.QueryVariable(variable.name)
            .label(variable.label)
            .query(variable.query)
            .datasource(SOURCE)
            .multi(True)
            .include_all(True)
            .current(models.VariableOption(selected=True, text="All", value="$__all"))
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    for row in board.rows:
        built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built.with_panel(_panel(panel))
    found = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    for number, panel in enumerate(found["panels"], 1):
        panel["id"] = number
        # The library writes what was not set as null, which Grafana would take for a setting.
        panel.update({key: {} for key in ("options",) if panel.get(key, {}) is None})
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _panel(panel: Panel) -> Any:  # noqa: ANN401 - one of the library's builders
    steps = [models.Threshold(value=value, color=color) for value, color in panel.steps]
    built = (
        _BUILDERS[panel.kind]()
        .title(panel.title)
        .description(panel.about)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
        .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    )
    if panel.alert:
        built.links([dashboard.DashboardLink(f"runbook {panel.alert}").url(f"{RUNBOOKS}/{panel.alert}.md").target_blank(True)])
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        built.with_target(target.range() if panel.kind == "line" else target.instant().format(_format(panel)))
    if panel.kind == "table":
        # Of an alert Prometheus keeps the labels alone, so the next step comes from the rules.
        text = {name: {"text": f"{name}: {step}", "index": number} for number, (name, step) in enumerate(_next_steps().items())}
        link = {"title": "runbook", "url": f"{RUNBOOKS}/${{__value.raw}}.md", "targetBlank": True}
        properties = [
            models.DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": text}]),
            models.DynamicConfigValue(id_val="links", value=[link]),
            models.DynamicConfigValue(id_val="displayName", value="alert, and the next step"),
        ]
        built.override_by_name("alertname", properties)
        hidden = dict.fromkeys(("Time", "Value", "__name__", "alertstate", "job", "instance"), True)
        built.with_transformation(models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))
    if panel.kind == "line":
        built.legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        if len(panel.steps) > 1:
            built.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.DASHED))
    return built


@cache
def _next_steps() -> dict[str, str]:
    """Return by alert what its rule says is to be done."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return {rule["alert"]: rule["annotations"]["action"] for group in rules["groups"] for rule in group["rules"]}


def _format(panel: Panel) -> prometheus_models.PromQueryFormat:
    return prometheus_models.PromQueryFormat.TABLE if panel.kind == "table" else prometheus_models.PromQueryFormat.TIME_SERIES


def main() -> int:
    """Write all dashboards, and remove those that are no longer declared."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.json"):
        file.unlink()
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(as_json(board), encoding="utf-8")
    print(f"{len(BOARDS)} dashboards in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
