"""A ResourceManager that gives prepared answers, as Hadoop 3.4 writes them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

APP = "application_1700000000000_0001"


def described(number: int, state: str, result: str = "UNDEFINED", **more: object) -> dict[str, Any]:
    """Describe an application of weir."""
    return {
        "id": f"application_1700000000000_000{number}",
        "name": "weir air_quality",
        "state": state,
        "finalStatus": result,
        "queue": "default",
        "startedTime": 1_700_000_000_000 + number,
        "trackingUrl": "http://127.0.0.1/proxy",
        "diagnostics": "",
        "allocatedMB": -1 if state == "FINISHED" else 4_096,
        "runningContainers": -1 if state == "FINISHED" else 2,
        **more,
    }


class Answers(BaseHTTPRequestHandler):
    """Answers from what a test has set."""

    apps: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[str]] = []
    scheduler: ClassVar[dict[str, Any]] = {}
    nodes: ClassVar[dict[str, Any] | None] = None

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self.asked.append(self.path)
        if place.path == "/ws/v1/cluster/apps":
            assert parse_qs(place.query)["applicationTags"] == ["weir"]
            self._say(200, {"apps": {"app": self.apps} if self.apps else None})
        elif place.path == "/ws/v1/cluster/scheduler":
            self._say(200, {"scheduler": {"schedulerInfo": self.scheduler}})
        elif place.path == "/ws/v1/cluster/nodes":
            self._say(200, {"nodes": self.nodes})
        elif place.path == "/ws/v1/cluster/info":
            self._say(200, {"clusterInfo": {"hadoopVersion": "3.4.2"}})
        elif place.path == "/conf":
            self._say(200, {"property": {"key": "x", "value": "2"}})
        else:
            found = [app for app in self.apps if place.path.endswith(app["id"])]
            self._say(200 if found else 404, {"app": found[0]} if found else {"RemoteException": {"message": "not found"}})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(f"{urlsplit(self.path).path} {body['state']}")
        self._say(202, body)

    def _say(self, code: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def resource_manager(conf: Path) -> Iterator[None]:
    """Run one, and write a configuration folder that names it."""
    Answers.apps, Answers.asked, Answers.nodes, Answers.scheduler = [], [], None, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    name = "yarn.resourcemanager.webapp.address"
    (conf / "yarn-site.xml").write_text(
        f"<configuration><property><name>{name}</name><value>127.0.0.1:{server.server_port}</value></property></configuration>"
    )
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
