"""Who hears of an alert in a test: a webhook's receiver, and a mail server."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.local.agent.processes import free_ports


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert as the webhook got it."""

    name: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass
class Receivers:
    """What was received. `url` is the webhook's, `smtp` the mail server's host:port."""

    url: str = ""
    smtp: str = ""
    heard: list[Heard] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)
    # By the labels of an alert, its last word.
    last: dict[tuple[tuple[str, str], ...], Heard] = field(default_factory=dict)

    def take(self, body: Mapping[str, Any]) -> None:
        for one in body["alerts"]:
            heard = Heard(one["labels"]["alertname"], one["status"], one["labels"], one["annotations"])
            self.heard.append(heard)
            self.last[tuple(sorted(heard.labels.items()))] = heard

    def firing(self) -> list[Heard]:
        return [heard for heard in list(self.last.values()) if heard.status == "firing"]

    def until(self, is_so: Callable[["Receivers"], object], seconds: float, what: str) -> float:
        """Wait for something to have been heard; return how long that took."""
        began = time.monotonic()
        while not is_so(self):
            names = sorted({(one.name, one.labels.get("domain", ""), one.labels.get("stage", "")) for one in self.firing()})
            assert time.monotonic() - began < seconds, f"{what}: not within {seconds:g} s; firing: {names}"
            time.sleep(0.5)
        return time.monotonic() - began


class _Mail:
    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's name
        content = envelope.content
        assert isinstance(content, bytes)
        self._receivers.mails.append(message_from_bytes(content))
        return "250 OK"


@contextmanager
def receivers() -> Iterator[Receivers]:
    """Run both on the loopback."""
    found = Receivers()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (port,) = free_ports(1)
    mail = Controller(_Mail(found), hostname="127.0.0.1", port=port)
    mail.start()
    found.url = f"http://127.0.0.1:{server.server_port}/"
    found.smtp = f"127.0.0.1:{port}"
    try:
        yield found
    finally:
        mail.stop()
        server.shutdown()
        thread.join()
        server.server_close()
