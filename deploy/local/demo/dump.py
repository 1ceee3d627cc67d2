"""What does the demo show of the second domain? A recorded dump of Kaggle becomes counts by tag and by owner, beside the air."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from deploy.local.agent.processes import ProcessKey, stop_process
from deploy.local.agent.stack_parts import PYTHON, last_line
from deploy.local.demo.report import print_grid
from deploy.local.demo.tables import DemoFailed, DemoTables
from deploy.local.errors import PartFailed

DUMP = Path(__file__).resolve().parents[3] / "tests" / "data" / "kaggle" / "2024-08-simple"
DAY = "2024-08-31"
TAGS, OWNERS, TAG_DAYS = "gold.report_top_tags", "gold.fact_dataset_owner_daily", "gold.fact_tag_usage_daily"
SHOWN = 5


class DumpShown:
    """The recorded dump, published beside the demo's other steps.

    Args:
        log: of the demo's producers.
        environment: of its processes.
    """

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log, self._environment = log, environment
        self._process: subprocess.Popen[str] | None = None
        self._report: dict[str, dict[str, int]] = {}

    @property
    def is_there(self) -> bool:
        """Whether the dump is in this installation: it is in the repository only."""
        return DUMP.is_dir()

    def publish(self) -> None:
        """Start to publish it."""
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*PYTHON, "-m", "weir", "produce", "kaggle", "--dump", str(DUMP), "--run-date", DAY, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(self._environment),
                text=True,
                start_new_session=True,
            )

    def is_in_gold(self, tables: DemoTables) -> bool:
        """Return whether all of it was published and is in gold.

        Raises:
            PartFailed: it was not published.
        """
        if self._process is not None and self._process.poll() is not None:
            assert self._process.stdout is not None
            with self._process.stdout as output:
                said = output.read()
            if self._process.returncode:
                raise PartFailed("producer", f"ended with {self._process.returncode} at the dump {DUMP}", last_line(self._log), self._log)
            self._report, self._process = json.loads(said)["tables"], None
        if not self._report or not tables.rows_of(TAGS) or not tables.rows_of(OWNERS):
            return False
        (found,) = tables.rows(f"SELECT sum(datasets_total) AS datasets FROM {OWNERS}")
        (tags,) = tables.rows(f"SELECT sum(datasets) AS uses FROM {TAG_DAYS}")
        return bool(found["datasets"] == self._report["datasets"]["input"] and tags["uses"] == self._report["dataset_tags"]["input"])

    def show(self, console: Console, tables: DemoTables) -> None:
        """Print what it has become.

        Raises:
            DemoFailed: rows of it were rejected.
        """
        said = ", ".join(f"{one['input']} {name.replace('_', ' ')}" for name, one in self._report.items())
        console.print(f"A dump of Kaggle of {DAY}, published as changes: {said}")
        if rejects := sum(one["rejects"] for one in self._report.values()):
            raise DemoFailed(f"{rejects} rows of the recorded dump were rejected, expected none: {self._report}")
        top = tables.rows(f"SELECT place, tag, datasets, popularity FROM {TAGS} ORDER BY place LIMIT {SHOWN}")
        print_grid(
            console,
            "Tags that most datasets have",
            (">place", "tag", ">datasets", "popularity"),
            [(r["place"], r["tag"], r["datasets"], r["popularity"]) for r in top],
        )
        owners = tables.rows(f"SELECT * FROM {OWNERS} ORDER BY views DESC, owner_user_id LIMIT {SHOWN}")
        print_grid(
            console,
            "Owners whose datasets are seen most",
            (">owner", "day", ">datasets", ">views", ">downloads", ">views per download"),
            [
                (
                    r["owner_user_id"], DAY, r["datasets_total"], f"{r['views']:,}", f"{r['downloads']:,}",
                    "" if r["views_per_download"] is None else f"{r['views_per_download']:.1f}",
                )
                for r in owners
            ],
        )  # fmt: skip

    def stop(self) -> None:
        """End the producer if it still runs."""
        if self._process is not None:
            if self._process.poll() is None:
                stop_process(ProcessKey.of(self._process.pid), 2)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
