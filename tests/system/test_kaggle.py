"""Kaggle through real Kafka: eight topics, a kill between silver and gold, and every verb that works for air quality."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.functions import count

from batch.prove.prove import prove
from deploy.local.services.kaggle_list_server import KaggleListServer, Row
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.settings import Settings
from monitoring.lag import bronze_lag, silver_lag
from streaming.driver import Driver
from tests.kaggle.dumps import Dump, competition, competition_tag, dataset, kernel, messages, organization, tagged, user
from tests.kaggle.published import publish
from tests.support.pipeline import session_of
from tests.support.services import Kafka

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).resolve().parents[2]
KAGGLE = kaggle("names")
ONE, TWO = date(2025, 3, 1), date(2025, 3, 8)
FIRST = Dump.of(
    ONE,
    users=[user(n) for n in range(1, 30)] + [user(30, None)],
    datasets=[dataset(n, n % 10 + 1, is_private=n % 3 == 0) for n in range(1, 60)],
    dataset_tags=[row for n in range(1, 60) for row in tagged(n, "Python", f"topic {n % 7}")],
    competitions=[competition(n, 2020 + n % 3, organization_id=n % 2) for n in range(1, 10)],
    competition_tags=[competition_tag(n, n % 4) for n in range(1, 12)],
    kernels=[kernel(n) for n in range(1, 6)],
)
SECOND = Dump.of(
    TWO,
    users=[user(n, f"renamed-{n}" if n % 5 == 0 else "") for n in range(1, 28)],
    datasets=[dataset(n, n % 9 + 1, is_private=n % 3 == 0, slug=f"data-{n}") for n in range(3, 60)],
    dataset_tags=[row for n in range(3, 60) for row in tagged(n, "Python", f"topic {n % 5}")],
    competitions=[competition(n, 2021 + n % 3, organization_id=n % 2) for n in range(1, 8)],
    organizations=[organization(1)],
    kernels=[kernel(n, total_votes=9) for n in range(2, 6)],
)


class Home:
    """A home, and `weir` in processes of their own on it."""

    def __init__(self, folder: Path, broker: Kafka) -> None:
        self.settings = Settings(home=folder, kafka_bootstrap=broker.bootstrap)
        self._environment = os.environ | {"WEIR_HOME": str(folder), "WEIR_KAFKA_BOOTSTRAP": broker.bootstrap}

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Run a verb to its end; give its exit code, or the negative signal that ended it, and what it printed."""
        command = [sys.executable, "-m", "weir", *arguments]
        process = subprocess.Popen(
            command,
            env=self._environment | more,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=400)
            return process.returncode, out, err
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def weir(self, *arguments: str, **more: str) -> str:
        """Run a verb that must succeed; give what it printed on stdout."""
        code, out, err = self.run(*arguments, **more)
        assert code == 0, (arguments, out, err)
        return out


def poll_the_list(home: Home) -> None:
    """Poll a list by `weir produce` and Kaggle's own client, killed at a page, after its delivery, and after the notice."""
    rows: list[Row] = [{"ref": f"User-{n % 9 + 1}/data-{n}", "title": f"Data {n}", "url": None} for n in range(1, 26)]
    with KaggleListServer(rows, page_rows=10) as server:
        for point in ("producer.sent:2", "producer.reported:2", "producer.noticed"):
            code, _, err = home.run("produce", "kaggle", "--once", WEIR_KAGGLE_URL=server.url, WEIR_FAILPOINT=point)
            assert code == -signal.SIGKILL, err
        home.weir("produce", "kaggle", "--once", WEIR_KAGGLE_URL=server.url)
        server.rows = rows[:-1]
        home.weir("produce", "kaggle", "--once", WEIR_KAGGLE_URL=server.url)
        code, _, err = home.run("produce", "kaggle", "--once", WEIR_KAGGLE_URL=server.url, WEIR_FAILPOINT="producer.sent:4")
        assert code == -signal.SIGKILL, err
        server.rows = rows[1:-1]
        home.weir("produce", "kaggle", "--once", WEIR_KAGGLE_URL=server.url)


def drain(home: Home, session: SparkSession) -> None:
    """Let a driver of this process run to the end of what is there, which is sooner than a new one."""
    Driver("kaggle", home.settings, lambda _: None, spark=session).run(available_now=True)


def test_two_dumps_with_a_kill_between_silver_and_gold_and_every_verb(spark: SparkSession, broker: Kafka, tmp_path: Path) -> None:
    home = Home(tmp_path / "home", broker)
    both = list(messages([FIRST, SECOND]))
    first = len(list(messages([FIRST])))
    session = session_of(spark, home.settings)
    publish(broker, both[:first])
    drain(home, session)
    poll_the_list(home)
    publish(broker, both[first:])
    code, _, _ = home.run("stream", "kaggle", "--available-now", WEIR_FAILPOINT="silver.merged")
    assert code == -signal.SIGKILL
    home.weir("stream", "kaggle", "--available-now")

    proof = prove(home.settings, KAGGLE, session)
    assert proof.is_equal, [(way, one) for way, one in proof.compared if one.differences]
    assert {way for way, _ in proof.compared} == {"batch", "independent"}
    for source in KAGGLE.sources:
        assert bronze_lag(home.settings, source).whole.messages == 0
    assert silver_lag(home.settings, KAGGLE).messages == 0
    assert session.table("lh.gold.dim_user").where("is_current").count() == 27 + 1
    runs = session.table("lh.gold.fact_dataset_owner_daily").select("pipeline_run_id").distinct().toArrow().to_pylist()
    assert all(row["pipeline_run_id"].startswith("silver.kaggle ") for row in runs)

    # The poll that was killed before its absences went on from there, so the first dataset was there at its pages: it is not absent.
    listed = session.table("lh.gold.dim_listed_dataset")
    assert {row["status"]: row["n"] for row in listed.groupBy("status").agg(count("*").alias("n")).toArrow().to_pylist()} == {
        "listed": 24,
        "unlisted": 1,
    }
    # Datasets 1 and 2 have gone before they had a slug; the owner of 4, 13 and 22 has another name now.
    assert {row["ref"].rpartition("-")[2] for row in listed.where("dataset_id IS NULL").toArrow().to_pylist()} == {
        "1",
        "2",
        "4",
        "13",
        "22",
    }
    checks = json.loads(home.weir("check", "kaggle", "--json"))
    alerts = {one["name"]: one for one in checks if one["severity"] == "warning"}
    assert alerts["freshness of gold"]["value"] < alerts["freshness of gold"]["bound"] == 48 * 3600
    assert alerts["records of list_polls"]["says"] == "not judged: 2 runs before the newest, 3 are needed"
    assert [one for one in checks if not one["is_good"]] == []
    strategies = {row["strategy"]: row["rows"] for one in checks if one["table"] == "lh.silver.kaggle_users" for row in one["groups"]}
    assert strategies["output"] == 27 and strategies["gone_removed"] == 3  # one of them was rejected while it was there
    rejected = next(row for one in checks if one["table"] == "lh.bronze.kaggle_users" for row in one["groups"])
    assert rejected["rejects"] == 1 and rejected["top_reasons"] == "no_user_name 1"
    home.weir("check")  # all domains: one of which nothing has arrived is left out

    rows = json.loads(home.weir("query", "--json", "SELECT place, tag, datasets FROM lh.gold.report_top_tags ORDER BY place LIMIT 1"))
    assert rows == [{"place": 1, "tag": "python", "datasets": 57}]
    years = "SELECT year, total_competitions AS n, growth_percent AS growth FROM lh.gold.fact_competitions_yearly ORDER BY year"
    assert json.loads(home.weir("query", "--json", years)) == [
        {"year": 2021, "n": 2, "growth": None},
        {"year": 2022, "n": 3, "growth": 50.0},
        {"year": 2023, "n": 2, "growth": pytest.approx(-100 / 3)},
    ]
    why = home.weir("why", "gold.fact_dataset_owner_daily", "owner_user_id=3", "date_key=20250308")
    assert "bronze.kaggle_datasets" in why and "bronze.kaggle_users" in why
    assert "kaggle" in home.weir("status")
    home.weir("maintain")
    home.weir("rebuild", "kaggle", "--layer", "silver", "--yes")
    home.weir("replay", "kaggle")
    drain(home, session)
    assert "gold equals" in home.weir("prove", "kaggle")
    home.weir("prove", "--witness", "duckdb")
    # Another way to read countries is another edition: refused, until gold is rebuilt by it.
    code, _, err = home.run("stream", "kaggle", "--available-now", WEIR_KAGGLE_COUNTRY="strict")
    assert code == 1 and "kaggle_country" in err and "Traceback" not in err
