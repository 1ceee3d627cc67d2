"""What does `weir resume` leave for the driver, and what does it tell?"""

from pathlib import Path

import pytest

from lakehouse.registry import UnknownDomain
from lakehouse.settings import Settings
from streaming.cli import resume
from streaming.resume import Request, asked
from streaming.supervisor import QueryState, write_states


class Context:
    def __init__(self, home: Path) -> None:
        self.obj = Settings(home=home)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([], "No driver of air_quality runs here"),
        ([QueryState("a", "running", "", 0, ""), QueryState("b", "stopped", "why", 0, "")], "starts b again"),
        ([QueryState("a", "running", "", 0, "")], "nothing to resume"),
    ],
)
def test_resume_leaves_a_request_and_says_who_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], states: list[QueryState], said: str
) -> None:
    if states:
        write_states(tmp_path / "run", "air_quality", states)
    resume(Context(tmp_path), "air_quality", accept=True, accept_loss=False)  # type: ignore[arg-type]
    assert asked(tmp_path, "air_quality") == (None if said == "nothing to resume" else Request(accept=True))
    assert said in capsys.readouterr().out


def test_resume_of_an_unknown_domain_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownDomain):
        resume(Context(tmp_path), "weather", accept=False, accept_loss=False)  # type: ignore[arg-type]
    assert asked(tmp_path, "weather") is None
