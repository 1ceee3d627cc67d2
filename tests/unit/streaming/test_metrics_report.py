"""Do the metrics say what a micro-batch was, and can they never fail it?"""

import json
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from monitoring import metrics
from streaming.batch_report import SPARK_PHASES, BatchReport, ProgressListener
from streaming.metrics_report import report_batch, report_progress


def value(name: str, query: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"query": query, **labels}) or 0.0


def test_metrics_are_the_sum_of_the_micro_batches() -> None:
    for batch_id in range(2):
        batch = BatchReport("silver.a", batch_id, rows_in=10, rows_out=7, rejected={"off_hour": 3}, warned={"few_measures": 1}, late=4)
        batch.unknown = {"nh3": 2}
        with batch.phases.timed("judge"):
            pass
        report_batch(batch)
    assert value("weir_query_input_rows_total", "silver.a") == 20
    assert value("weir_query_rows_out_total", "silver.a") == 14
    assert value("weir_rejects_total", "silver.a", reason="off_hour") == 6
    assert value("weir_unknown_fields_total", "silver.a", field="nh3") == 4
    assert value("weir_late_rows_total", "silver.a") == 8
    assert value("weir_query_phase_seconds_count", "silver.a", phase="judge") == 2
    assert value("weir_query_last_commit_timestamp_seconds", "silver.a") > 0


def test_micro_batch_without_rows_is_no_commit() -> None:
    report_batch(BatchReport("silver.empty", 0))
    assert value("weir_query_last_commit_timestamp_seconds", "silver.empty") == 0


def test_progress_of_spark_is_told_in_seconds_by_phase() -> None:
    progress = {"name": "bronze.b", "durationMs": {"walCommit": 250, "triggerExecution": 2000, "somethingNew": 1}}
    event = SimpleNamespace(progress=lambda: SimpleNamespace(json=lambda: json.dumps(progress)))
    ProgressListener(report_progress).onQueryProgress(event)
    assert value("weir_query_phase_seconds_sum", "bronze.b", phase="spark.write_offsets") == 0.25
    assert value("weir_query_phase_seconds_sum", "bronze.b", phase="spark.whole") == 2
    assert sum(value("weir_query_phase_seconds_count", "bronze.b", phase=phase) for phase in SPARK_PHASES.values()) == 2


def test_metric_that_cannot_be_written_fails_no_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(metrics.QUERY_INPUT_ROWS, "labels", full)
    monkeypatch.setattr(metrics.QUERY_PHASE_SECONDS, "labels", full)
    report_batch(BatchReport("silver.full", 0, rows_in=1))
    report_progress("silver.full", {"spark.whole": 1.0})
