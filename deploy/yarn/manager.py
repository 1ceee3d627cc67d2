"""What runs on YARN, and how is it stopped? By the REST interface of the ResourceManager that the configuration folder names.

Source: Hadoop 3.4, "ResourceManager REST API's".
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import requests

from deploy.yarn.errors import NoYarn, UnknownApplication
from deploy.yarn.hadoop_user import hadoop_user
from lakehouse.settings import Settings

# Applications of weir have this tag, by which they are found among others.
TAG = "weir"
_STREAMS = "weir-stream-"
ASK_SECONDS = 10.0
DEFAULT_PORT = 8088
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


@dataclass(frozen=True, slots=True)
class App:
    """An application as the ResourceManager shows it.

    Attributes:
        id: such as application_1700000000000_0001.
        name: what it does.
        state: such as ACCEPTED, RUNNING, FINISHED.
        result: SUCCEEDED, FAILED or KILLED once it has ended, else UNDEFINED.
        queue: its queue.
        started_ts: when it was submitted, UTC.
        url: its tracking page.
        says: what YARN says of its failure; empty for none.
        memory: of all its containers [MiB].
        containers: that it has now.
        domains: that it streams; none for a batch verb.
    """

    id: str
    name: str
    state: str
    result: str
    queue: str
    started_ts: datetime
    url: str
    says: str
    memory: int
    containers: int
    domains: tuple[str, ...]

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the scheduler.

    Attributes:
        name: without its parents' names.
        used: share of the most memory that it may have which is in use, from 0 to 1.
        is_running: whether it takes applications.
    """

    name: str
    used: float
    is_running: bool


class Manager:
    """The ResourceManager of a configuration folder.

    Raises:
        NoYarn: the folder does not name one, or it does not answer; from every call.
    """

    def __init__(self, settings: Settings) -> None:
        self._address = manager_address(settings)

    def apps(self, with_ended: bool = False) -> list[App]:
        """Return weir's applications, the newest first."""
        found = (self._get("/ws/v1/cluster/apps", {"applicationTags": TAG}).get("apps") or {}).get("app") or []
        apps = sorted(map(_app, found), key=lambda one: one.started_ts, reverse=True)
        return [one for one in apps if with_ended or not one.has_ended]

    def app(self, application: str) -> App:
        """Return one application.

        Raises:
            UnknownApplication: YARN knows none of this id.
        """
        return _app(self._get(f"/ws/v1/cluster/apps/{application}", missing=application)["app"])

    def attempts(self, application: str) -> int:
        """Return how often the driver of an application was started."""
        found = self._get(f"/ws/v1/cluster/apps/{application}/appattempts", missing=application)
        return len((found.get("appAttempts") or {}).get("appAttempt") or [])

    def kill(self, application: str) -> None:
        """Ask YARN to end all its containers at once."""
        self._ask("PUT", f"/ws/v1/cluster/apps/{application}/state", json={"state": "KILLED"}, missing=application)

    def queues(self) -> dict[str, Queue]:
        """Return the queues that take applications, by name: those of the capacity or fair scheduler, or the one of FIFO."""
        top = self._get("/ws/v1/cluster/scheduler")["scheduler"]["schedulerInfo"]
        return {queue.name: queue for queue in _queues(top.get("rootQueue", top))}

    def largest_container(self) -> int:
        """Return how much memory the largest node has for containers [MiB]; 0 without a node."""
        nodes = (self._get("/ws/v1/cluster/nodes").get("nodes") or {}).get("node") or []
        running = [one for one in nodes if one["state"] == "RUNNING"]
        return max((int(one["usedMemoryMB"]) + int(one["availMemoryMB"]) for one in running), default=0)

    def version(self) -> tuple[str, datetime | None]:
        """Return Hadoop's version, and the ResourceManager's clock as its answer shows it, UTC."""
        answer = self._ask("GET", "/ws/v1/cluster/info")
        said = answer.headers.get("Date")
        # HTTP's dates are in UTC, whether they say so or not.
        clock = parsedate_to_datetime(said).replace(tzinfo=UTC) if said else None
        return str(answer.json()["clusterInfo"]["hadoopVersion"]), clock

    def configured(self, name: str) -> str:
        """Return what the ResourceManager is configured with; empty where it does not say."""
        answer = self._ask("GET", "/conf", params={"name": name}, missing=name, headers={"Accept": "application/json"})
        return str((answer.json().get("property") or {}).get("value", ""))

    @property
    def address(self) -> str:
        """host:port of the ResourceManager's pages."""
        return self._address

    def wait(self, application: str, seconds: float) -> Iterator[App]:
        """Yield the application whenever its state has changed, until it has ended or the time is over."""
        deadline, before = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            app = self.app(application)
            if app.state != before:
                before = app.state
                yield app
            if app.has_ended:
                return
            time.sleep(0.5)

    def _get(self, path: str, params: Mapping[str, str] | None = None, missing: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", path, params=params, missing=missing).json()
        return found

    def _ask(self, method: str, path: str, *, missing: str = "", **more: Any) -> requests.Response:  # noqa: ANN401 - of requests
        params = {"user.name": hadoop_user(os.environ), **(more.pop("params", None) or {})}
        try:
            answer = requests.request(method, f"http://{self._address}{path}", params=params, timeout=ASK_SECONDS, **more)
        except requests.RequestException as error:
            raise NoYarn(self._address, str(error)) from error
        if missing and answer.status_code in (400, 404):
            raise UnknownApplication(missing)
        if not answer.ok:
            raise NoYarn(self._address, f"it answered {answer.status_code}: {answer.text[:200]}")
        return answer


def manager_address(settings: Settings) -> str:
    """Return host:port of the ResourceManager's pages.

    Raises:
        NoYarn: there is no configuration, or it names none.
    """
    file = Path(settings.hadoop_conf_dir or "/nonexistent") / "yarn-site.xml"
    if not file.is_file():
        raise NoYarn("", f"WEIR_HADOOP_CONF_DIR is {settings.hadoop_conf_dir or 'not set'}, and a folder with yarn-site.xml is needed")
    values = site_values(file)
    host = values.get("yarn.resourcemanager.hostname", "")
    address = values.get("yarn.resourcemanager.webapp.address") or (f"{host}:{DEFAULT_PORT}" if host else "")
    if not address:
        raise NoYarn("", f"{file} names no yarn.resourcemanager.webapp.address and no yarn.resourcemanager.hostname")
    return address.replace("${yarn.resourcemanager.hostname}", host)


def site_values(file: Path) -> dict[str, str]:
    """Read a configuration file of Hadoop."""
    rows = ElementTree.parse(file).getroot().iter("property")
    return {(row.findtext("name") or "").strip(): (row.findtext("value") or "").strip() for row in rows}


def domain_tag(domain: str) -> str:
    """Return the tag by which the application that streams a domain is found."""
    return f"{_STREAMS}{domain}"


def _queues(queue: Mapping[str, Any]) -> Iterator[Queue]:
    children = queue.get("queues") or queue.get("childQueues") or {}
    inside = children.get("queue", []) if isinstance(children, dict) else children
    if inside:
        for child in inside:
            yield from _queues(child)
        return
    # The fair scheduler gives amounts, the others percent; the root's name is the whole, and a queue's path has dots there.
    if "usedResources" in queue:
        used = float(queue["usedResources"]["memory"]) / max(1.0, float(queue["maxResources"]["memory"]))
    elif "absoluteUsedCapacity" in queue:
        used = float(queue["absoluteUsedCapacity"]) / max(1e-9, float(queue["absoluteMaxCapacity"]))
    else:
        used = float(queue.get("usedCapacity", 0)) / 100
    state = queue.get("state") or queue.get("qstate") or "RUNNING"
    yield Queue(str(queue.get("queueName", "default")).rpartition(".")[2], used, state == "RUNNING")


def _app(found: Mapping[str, Any]) -> App:
    return App(
        id=str(found["id"]),
        name=str(found["name"]),
        state=str(found["state"]),
        result=str(found["finalStatus"]),
        queue=str(found["queue"]),
        started_ts=datetime.fromtimestamp(int(found["startedTime"]) / 1000, UTC),
        url=str(found.get("trackingUrl", "")),
        says=str(found.get("diagnostics", "")).strip(),
        memory=max(0, int(found.get("allocatedMB", 0))),
        containers=max(0, int(found.get("runningContainers", 0))),
        domains=tuple(tag.removeprefix(_STREAMS) for tag in str(found.get("applicationTags", "")).split(",") if tag.startswith(_STREAMS)),
    )
