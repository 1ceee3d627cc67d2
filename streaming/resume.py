"""How does a driver learn that it shall go on? By one file in the state folder, which it takes at its start or within a second.

It leaves another file beside it that says what came of the request, for whoever asked and waits.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from lakehouse.storage.folders import Folder


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


def request_file(domain: str) -> str:
    """Name the file of one domain."""
    return f"stream-{domain}.resume.json"


def answer_file(domain: str) -> str:
    """Name the file in which the driver says what came of the last request."""
    return f"stream-{domain}.resumed.json"


def ask(folder: Folder, domain: str, request: Request) -> str:
    """Leave a request, and give its id; one that was not taken yet is added to."""
    before = asked(folder, domain) or Request()
    both = Request(before.accept or request.accept, before.accept_loss or request.accept_loss, uuid.uuid4().hex)
    folder.write(request_file(domain), json.dumps(asdict(both)))
    return both.id


def asked(folder: Folder, domain: str) -> Request | None:
    """Read the request that lies there; null for none."""
    text = folder.text(request_file(domain))
    if text is None:
        return None
    try:
        return Request(**json.loads(text))
    except (ValueError, TypeError):  # not written by `ask`: going on without accepting anything is what it can mean at most
        return Request()


def done(folder: Folder, domain: str, answer: Answer | None = None) -> None:
    """Say what came of a request and take it away, once all it asked for is written down; one that was left meanwhile stays."""
    if answer is not None:
        folder.write(answer_file(domain), json.dumps(asdict(answer)))
    request = asked(folder, domain)
    if answer is None or request is None or request.id == answer.id:
        folder.remove(request_file(domain))


def answered(folder: Folder, domain: str, request_id: str) -> Answer | None:
    """Read what came of a request; null while it was not taken."""
    try:
        found = Answer(**json.loads(folder.text(answer_file(domain)) or ""))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.id == request_id else None
