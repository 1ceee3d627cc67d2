"""What Iceberg refuses is done again; what else fails is not."""

from collections.abc import Iterator

import pytest
import stamina

from lakehouse.locks.conflicts import ATTEMPTS, is_refused, until_accepted

REFUSAL = "py4j: org.apache.iceberg.exceptions.ValidationException: Found conflicting files that can contain records matching …"


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield


def test_a_refused_commit_is_made_again() -> None:
    calls = []

    def work() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError(REFUSAL)
        return "done"

    assert until_accepted(work) == "done"
    assert len(calls) == 3


def test_not_for_ever() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise RuntimeError(REFUSAL)

    with pytest.raises(RuntimeError, match="conflicting"):
        until_accepted(work)
    assert len(calls) == ATTEMPTS


def test_nothing_else_is() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise ValueError("no space left on device")

    with pytest.raises(ValueError, match="no space"):
        until_accepted(work)
    assert len(calls) == 1


def test_spark_hides_the_reason_in_its_stack() -> None:
    error = RuntimeError("[WRITING_JOB_ABORTED] Writing job aborted.")
    error._stackTrace = f"Caused by: {REFUSAL}"  # type: ignore[attr-defined]
    assert is_refused(error)
    outer = RuntimeError("foreachBatch failed")
    outer.__cause__ = error
    assert is_refused(outer)
    assert not is_refused(RuntimeError("[WRITING_JOB_ABORTED] Writing job aborted."))
