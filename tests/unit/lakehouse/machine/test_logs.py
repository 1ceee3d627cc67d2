import json
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from lakehouse.machine.logs import configure_logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_line_is_one_object_on_stderr_with_level_and_utc_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    structlog.get_logger().info("micro-batch", query="silver.x", batch_id=3, rows_in=10)
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert {"event": "micro-batch", "level": "info", "query": "silver.x", "batch_id": 3, "rows_in": 10}.items() <= line.items()
    assert line["timestamp"].endswith("Z")


def test_console_line_is_for_people_and_uncoloured_where_nobody_sees_colours(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("console", "info")
    structlog.get_logger().info("micro-batch", query="silver.x", rows_in=10)
    line = capsys.readouterr().err
    assert "micro-batch" in line and "query=silver.x" in line and "rows_in=10" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_lines_below_the_level_are_dropped_and_a_secret_is_starred(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logs(log_format, "warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("asked", key=SecretStr("s3cret"))
    line = capsys.readouterr().err
    assert "quiet" not in line and "s3cret" not in line
    assert "**********" in line


def test_error_is_told_with_its_cause(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: broken" in json.loads(capsys.readouterr().err)["exception"]
