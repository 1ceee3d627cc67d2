"""What does `weir resume` leave for the driver, and what does it tell?"""

import threading
import time
from pathlib import Path

import pytest

import streaming.cli
from lakehouse.registry import UnknownDomain
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from streaming.cli import resume
from streaming.query_states import QueryState, write_states
from streaming.resume import Answer, Request, answered, ask, asked, done


class Context:
    def __init__(self, home: Path) -> None:
        self.obj = Settings(home=home)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([], "No driver of air_quality runs here"),
        ([QueryState("a", "running", "", 0, ""), QueryState("b", "stopped", "why", 0, "")], "starts b again"),
        ([QueryState("a", "running", "", 0, "")], "nothing to resume"),
        ([QueryState("a", "running", "", 0, "", held={"users": "too many"})], "starts a with users again"),
    ],
)
def test_resume_leaves_a_request_and_says_who_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, states: list[QueryState], said: str
) -> None:
    monkeypatch.setattr(streaming.cli, "ANSWER_SECONDS", 0.2)
    if states:
        write_states(LocalFolder(tmp_path / "state"), "air_quality", states)
    resume(Context(tmp_path), "air_quality", accept=True, accept_loss=False)  # type: ignore[arg-type]
    assert asked(LocalFolder(tmp_path / "state"), "air_quality") == (None if said == "nothing to resume" else Request(accept=True))
    assert said in capsys.readouterr().out


def test_resume_says_what_the_driver_recorded_or_that_it_recorded_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_states(LocalFolder(tmp_path / "state"), "air_quality", [QueryState("b", "stopped", "why", 0, "")])

    def driver() -> None:
        limit = time.monotonic() + 30
        while (request := asked(LocalFolder(tmp_path / "state"), "air_quality")) is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        done(LocalFolder(tmp_path / "state"), "air_quality", Answer(request.id, ["Nothing is lost: nothing was recorded."]))

    beside = threading.Thread(target=driver)
    beside.start()
    resume(Context(tmp_path), "air_quality", accept=False, accept_loss=True)  # type: ignore[arg-type]
    beside.join()
    assert capsys.readouterr().out.splitlines()[1:] == ["Nothing is lost: nothing was recorded."]
    assert asked(LocalFolder(tmp_path / "state"), "air_quality") is None


def test_resume_with_nothing_stopped_says_that_it_recorded_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_states(LocalFolder(tmp_path / "state"), "air_quality", [QueryState("a", "running", "", 0, "")])
    resume(Context(tmp_path), "air_quality", accept=False, accept_loss=True)  # type: ignore[arg-type]
    assert "nothing to resume. Nothing was accepted or recorded." in capsys.readouterr().out


def test_a_request_that_was_left_while_the_one_before_was_taken_stays(tmp_path: Path) -> None:
    first = ask(LocalFolder(tmp_path / "state"), "air_quality", Request(accept_loss=True))
    second = ask(LocalFolder(tmp_path / "state"), "air_quality", Request(accept=True))
    done(LocalFolder(tmp_path / "state"), "air_quality", Answer(first, []))
    assert asked(LocalFolder(tmp_path / "state"), "air_quality") == Request(accept=True, accept_loss=True)
    done(LocalFolder(tmp_path / "state"), "air_quality", Answer(second, ["done"]))
    assert asked(LocalFolder(tmp_path / "state"), "air_quality") is None
    assert answered(LocalFolder(tmp_path / "state"), "air_quality", first) is None


def test_resume_of_an_unknown_domain_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownDomain):
        resume(Context(tmp_path), "weather", accept=False, accept_loss=False)  # type: ignore[arg-type]
    assert asked(LocalFolder(tmp_path / "state"), "weather") is None
