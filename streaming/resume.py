"""How does a driver learn that it shall go on? By one file in HOME/state, which it takes at its start or within a second."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lakehouse.files import replace_file


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator asked for: to go on, and with what.

    Attributes:
        accept: let the rows that are in bronze through, whatever share of them is bad.
        accept_loss: go on without what Kafka has lost.
    """

    accept: bool = False
    accept_loss: bool = False


def request_file(home: Path, domain: str) -> Path:
    """The file of one domain."""
    return home / "state" / f"stream-{domain}.resume.json"


def ask(home: Path, domain: str, request: Request) -> None:
    """Leave a request; one that was not taken yet is added to."""
    before = asked(home, domain) or Request()
    both = Request(before.accept or request.accept, before.accept_loss or request.accept_loss)
    replace_file(request_file(home, domain), json.dumps(asdict(both)))


def asked(home: Path, domain: str) -> Request | None:
    """Read the request that lies there; null for none."""
    try:
        return Request(**json.loads(request_file(home, domain).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # not written by `ask`: going on without accepting anything is what it can mean at most
        return Request()


def done(home: Path, domain: str) -> None:
    """Take the request away, once all it asked for is written down."""
    request_file(home, domain).unlink(missing_ok=True)
