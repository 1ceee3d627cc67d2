"""How does a driver learn that it shall go on? By one file in HOME/state, which it takes at its start or within a second.

It leaves another file beside it that says what came of the request, for whoever asked and waits.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lakehouse.files import replace_file


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator asked for: to go on, and with what.

    Attributes:
        accept: let the rows that are in bronze through, whatever share of them is bad.
        accept_loss: go on without what Kafka has lost.
        id: tells one request from another.
    """

    accept: bool = False
    accept_loss: bool = False
    id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request, as sentences; `id` is the request's."""

    id: str
    says: Sequence[str]


def request_file(home: Path, domain: str) -> Path:
    """The file of one domain."""
    return home / "state" / f"stream-{domain}.resume.json"


def answer_file(home: Path, domain: str) -> Path:
    """The file in which the driver says what came of the last request."""
    return home / "state" / f"stream-{domain}.resumed.json"


def ask(home: Path, domain: str, request: Request) -> str:
    """Leave a request, and give its id; one that was not taken yet is added to."""
    before = asked(home, domain) or Request()
    both = Request(before.accept or request.accept, before.accept_loss or request.accept_loss, uuid.uuid4().hex)
    replace_file(request_file(home, domain), json.dumps(asdict(both)))
    return both.id


def asked(home: Path, domain: str) -> Request | None:
    """Read the request that lies there; null for none."""
    try:
        return Request(**json.loads(request_file(home, domain).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # not written by `ask`: going on without accepting anything is what it can mean at most
        return Request()


def done(home: Path, domain: str, answer: Answer | None = None) -> None:
    """Say what came of a request and take it away, once all it asked for is written down; one that was left meanwhile stays."""
    if answer is not None:
        replace_file(answer_file(home, domain), json.dumps(asdict(answer)), is_lasting=False)
    request = asked(home, domain)
    if answer is None or request is None or request.id == answer.id:
        request_file(home, domain).unlink(missing_ok=True)


def answered(home: Path, domain: str, request_id: str) -> Answer | None:
    """Read what came of a request; null while it was not taken."""
    try:
        found = Answer(**json.loads(answer_file(home, domain).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.id == request_id else None
