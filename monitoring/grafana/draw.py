"""What do the dashboards look like? `python -m monitoring.grafana.draw PROMETHEUS FOLDER` draws each from its JSON, without Grafana.

The queries are those of the JSON, asked of a Prometheus over the last minutes. Lines, numbers and tables lie where Grafana lays them
and thresholds are dashed lines.
"""

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import requests
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from monitoring.grafana.build import FOLDER

MINUTES, STEP = 15, 10
COLUMNS, ROW_INCHES, WIDTH_INCHES = 24, 0.36, 16
MOST_SERIES = 14
COLOURS = {"green": "#3a8f4d", "yellow": "#c9a227", "red": "#c0392b"}


def draw(prometheus: str, file: Path, folder: Path) -> Path:
    """Draw one dashboard.

    Args:
        prometheus: its address, such as http://127.0.0.1:9090.
        file: the dashboard's JSON.
        folder: where the picture goes.
    """
    board = json.loads(file.read_text(encoding="utf-8"))
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(WIDTH_INCHES, height * ROW_INCHES + 0.6), facecolor="white")
    figure.suptitle(board["title"], x=0.01, ha="left", fontsize=15, weight="bold", y=1 - 0.15 / (height * ROW_INCHES + 0.6))
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        top = 1 - (place["y"] * ROW_INCHES + 0.5) / (height * ROW_INCHES + 0.6)
        tall = place["h"] * ROW_INCHES / (height * ROW_INCHES + 0.6)
        if panel["type"] == "row":
            figure.text(0.01, top - tall * 0.8, panel["title"], fontsize=12, weight="bold", color="#444444")
            continue
        axes = figure.add_axes((left + 0.035, top - tall * 0.80, width - 0.05, tall * 0.66))
        axes.set_title(panel["title"], fontsize=10, loc="left")
        found = [(target, _series(prometheus, target)) for target in panel["targets"]]
        {"timeseries": _lines, "stat": _numbers, "table": _table}[panel["type"]](axes, panel, found)
    picture = folder / f"{file.stem}.png"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=70)
    return picture


def _series(prometheus: str, target: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """Ask for a query's series: legend, minutes before now, values."""
    now = time.time()
    query = re.sub(r'"\$\w+"', '".*"', target["expr"])
    span = {"query": query, "start": str(now - MINUTES * 60), "end": str(now), "step": str(STEP)}
    answer = requests.get(f"{prometheus}/api/v1/query_range", params=span, timeout=30).json()
    found = []
    for one in answer["data"]["result"]:
        legend = re.sub(r"\{\{(\w+)\}\}", lambda label, one=one: one["metric"].get(label[1], ""), target.get("legendFormat") or "")
        legend = legend or one["metric"].get("alertname", "")
        values = [(float(at) - now) / 60 for at, _ in one["values"]], [float(value) for _, value in one["values"]]
        found.append((legend, *values))
    return sorted(found)


def _lines(axes: Any, panel: dict[str, Any], found: list[Any]) -> None:  # noqa: ANN401 - matplotlib's
    several = [series for _, each in found for series in each]
    for legend, minutes, values in several[:MOST_SERIES]:
        axes.plot(minutes, values, label=legend[:60], linewidth=1.2)
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is not None and several and step["value"] <= 1.5 * max(max(v, default=0) for *_, v in several):
            axes.axhline(step["value"], color=COLOURS[step["color"]], linestyle="--", linewidth=0.8)
    axes.set_xlim(-MINUTES, 0)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=7)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shown(value, unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min" if value else "now"))
    if several:
        axes.legend(fontsize=6, loc="upper left", ncols=2 if len(several) > 4 else 1, framealpha=0.7)
    else:
        _nothing(axes)


def _numbers(axes: Any, panel: dict[str, Any], found: list[Any]) -> None:  # noqa: ANN401 - matplotlib's
    axes.axis("off")
    several = [(legend, values[-1]) for _, each in found for legend, _, values in each if values]
    for number, (legend, value) in enumerate(several):
        x = (number + 0.5) / len(several)
        axes.text(x, 0.55, _shown(value, panel["fieldConfig"]["defaults"]["unit"]), ha="center", fontsize=18, color=_colour(panel, value))
        axes.text(x, 0.2, legend, ha="center", fontsize=7)
    if not several:
        _nothing(axes)


def _table(axes: Any, panel: dict[str, Any], found: list[Any]) -> None:  # noqa: ANN401 - matplotlib's
    axes.axis("off")
    texts: dict[str, Any] = next(
        (
            property_["value"][0]["options"]
            for override in panel["fieldConfig"]["overrides"]
            for property_ in override["properties"]
            if property_["id"] == "mappings"
        ),
        {},
    )
    lines = sorted({texts.get(legend, {}).get("text", legend) for _, each in found for legend, minutes, _ in each if minutes[-1] > -1})
    for number, line in enumerate(lines[:12]):
        axes.text(0, 1 - (number + 1) / 13, line, fontsize=9, color=COLOURS["red"])
    if not lines:
        axes.text(0.5, 0.5, "nothing fires", ha="center", va="center", fontsize=11, color=COLOURS["green"])


def _nothing(axes: Any) -> None:  # noqa: ANN401 - matplotlib's
    axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", fontsize=9, color="#888888", transform=axes.transAxes)


def _colour(panel: dict[str, Any], value: float) -> str:
    reached = [step for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]["color"]]


def _shown(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return ""
    if unit == "percentunit":
        return f"{value:.0%}" if abs(value) >= 0.01 or not value else f"{value:.2%}"
    if unit == "s" and abs(value) >= 120:
        return f"{value / 3600:.1f} h" if abs(value) >= 7_200 else f"{value / 60:.0f} min"
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}{'B' if unit == 'bytes' else ''}"
    return f"{value:.3g}{ {'s': ' s', 'bytes': ' B', 'reqps': ' /s'}.get(unit, '') }"


def main() -> int:
    """Draw all dashboards."""
    mpl.use("Agg")
    prometheus, folder = sys.argv[1].rstrip("/"), Path(sys.argv[2])
    for file in sorted(FOLDER.glob("*.json")):
        print(draw(prometheus, file, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
