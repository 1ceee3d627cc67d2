"""What does weir make of the ResourceManager's answers? A small server gives them, as Hadoop 3.4 writes them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from deploy.yarn.errors import NoYarn, UnknownApplication
from deploy.yarn.manager import Manager
from lakehouse.settings import Settings

APP = "application_1700000000000_0001"


def described(number: int, state: str, result: str = "UNDEFINED") -> dict[str, Any]:
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
    }


class Answers(BaseHTTPRequestHandler):
    apps: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        self.asked.append(self.path)
        if place.path == "/ws/v1/cluster/apps":
            assert parse_qs(place.query)["applicationTags"] == ["weir"]
            self._say(200, {"apps": {"app": self.apps} if self.apps else None})
        elif place.path == "/ws/v1/cluster/metrics":
            self._say(200, {"clusterMetrics": {"allocatedMB": 3_072, "totalMB": 4_096}})
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


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    Answers.apps, Answers.asked = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    name = "yarn.resourcemanager.webapp.address"
    (tmp_path / "yarn-site.xml").write_text(
        f"<configuration><property><name>{name}</name><value>127.0.0.1:{server.server_port}</value></property></configuration>"
    )
    try:
        yield Manager(Settings(home=tmp_path, hadoop_conf_dir=str(tmp_path)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_those_that_run_are_listed_the_newest_first_and_the_others_when_asked(manager: Manager) -> None:
    assert manager.apps() == []
    Answers.apps = [described(1, "RUNNING"), described(2, "FINISHED", "SUCCEEDED"), described(3, "ACCEPTED")]
    assert [one.id[-1] for one in manager.apps()] == ["3", "1"]
    assert [(one.id[-1], one.result, one.memory) for one in manager.apps(with_ended=True)] == [
        ("3", "UNDEFINED", 4_096),
        ("2", "SUCCEEDED", 0),
        ("1", "UNDEFINED", 4_096),
    ]


def test_an_application_is_killed_by_its_id_and_an_unknown_one_is_said(manager: Manager) -> None:
    Answers.apps = [described(1, "RUNNING")]
    manager.kill(APP)
    assert Answers.asked == [f"/ws/v1/cluster/apps/{APP}/state KILLED"]
    with pytest.raises(UnknownApplication, match="application_9"):
        manager.app("application_9")


def test_use_of_the_queue_is_in_percent(manager: Manager) -> None:
    assert manager.queue_use() == 75


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (None, "WEIR_HADOOP_CONF_DIR is .*, and a folder with yarn-site.xml is needed"),
        ("<configuration/>", "names no yarn.resourcemanager.webapp.address"),
    ],
    ids=["no file", "no address"],
)
def test_a_configuration_without_a_manager_is_said(tmp_path: Path, site: str | None, says: str) -> None:
    if site is not None:
        (tmp_path / "yarn-site.xml").write_text(site)
    with pytest.raises(NoYarn, match=says):
        Manager(Settings(home=tmp_path, hadoop_conf_dir=str(tmp_path)))


def test_a_manager_that_does_not_answer_is_said_with_its_address(tmp_path: Path) -> None:
    name = "yarn.resourcemanager.hostname"
    (tmp_path / "yarn-site.xml").write_text(
        f"<configuration><property><name>{name}</name><value>127.0.0.1</value></property></configuration>"
    )
    with pytest.raises(NoYarn, match=r"at 127\.0\.0\.1:8088 cannot be asked"):
        Manager(Settings(home=tmp_path, hadoop_conf_dir=str(tmp_path))).apps()
