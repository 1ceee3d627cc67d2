"""What does weir make of the ResourceManager's answers?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.yarn.errors import NoYarn, UnknownApplication
from deploy.yarn.manager import Manager
from lakehouse.settings import Settings
from tests.support.resource_manager import APP, Answers, described, resource_manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with resource_manager(tmp_path):
        yield Manager(Settings(home=tmp_path, hadoop_conf_dir=str(tmp_path)))


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


CAPACITY = {
    "type": "capacityScheduler",
    "queueName": "root",
    "queues": {
        "queue": [
            {"queueName": "stopped", "absoluteUsedCapacity": 0.0, "absoluteMaxCapacity": 100.0, "state": "STOPPED"},
            {
                "queueName": "data",
                "queues": {
                    "queue": [{"queueName": "stream", "absoluteUsedCapacity": 45.0, "absoluteMaxCapacity": 50.0, "state": "RUNNING"}]
                },
            },
        ]
    },
}
FAIR = {
    "type": "fairScheduler",
    "rootQueue": {
        "queueName": "root",
        "childQueues": {"queue": [{"queueName": "root.stream", "usedResources": {"memory": 900}, "maxResources": {"memory": 1_000}}]},
    },
}
FIFO = {"type": "fifoScheduler", "usedCapacity": 90.0, "qstate": "RUNNING"}


@pytest.mark.parametrize(
    ("scheduler", "name", "others"), [(CAPACITY, "stream", {"stopped"}), (FAIR, "stream", set()), (FIFO, "default", set())]
)
def test_use_of_a_queue_is_a_share_of_the_most_it_may_have_with_each_scheduler(
    manager: Manager, scheduler: dict[str, Any], name: str, others: set[str]
) -> None:
    Answers.scheduler = scheduler
    queues = manager.queues()
    assert set(queues) == {name} | others
    assert queues[name].used == pytest.approx(0.9)
    assert queues[name].is_running
    assert not any(queues[other].is_running for other in others)


def test_the_largest_container_is_that_of_the_largest_node_that_runs(manager: Manager) -> None:
    Answers.nodes = None
    assert manager.largest_container() == 0
    nodes = [("RUNNING", 1_000, 3_000), ("LOST", 9_000, 9_000), ("RUNNING", 0, 2_000)]
    Answers.nodes = {"node": [{"state": state, "usedMemoryMB": used, "availMemoryMB": free} for state, used, free in nodes]}
    assert manager.largest_container() == 4_000


def test_version_clock_and_configuration_are_read(manager: Manager) -> None:
    version, clock = manager.version()
    assert version == "3.4.2"
    assert clock is not None
    assert clock.tzinfo is not None
    assert manager.configured("yarn.resourcemanager.am.max-attempts") == "2"


def test_the_domains_of_an_application_are_among_its_tags(manager: Manager) -> None:
    Answers.apps = [described(1, "RUNNING", applicationTags="weir-stream-kaggle,weir,weir-stream-air_quality")]
    assert sorted(manager.apps()[0].domains) == ["air_quality", "kaggle"]


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
