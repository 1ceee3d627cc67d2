"""Is Kafka asked rightly as others run and use it? Bootstrap lists, foreign topics' settings, offsets without a message; no Spark."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in its stubs' list
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from deploy.local.agent.processes import free_ports
from deploy.local.doctor import examine
from deploy.local.services import kafka_broker
from deploy.local.services.kafka_broker import EmbeddedKafka, answers
from deploy.local.status import collect
from lakehouse.broker.bootstrap import Address, parse_bootstrap, reachable, usable
from lakehouse.broker.missing_messages import Missing
from lakehouse.broker.offsets import Broker, TopicOffsets, end_offsets
from lakehouse.broker.topic_settings import UnfitTopicError
from lakehouse.broker.topics import NoKafkaError, check_topic, ensure_topic, topic_id
from lakehouse.contract import Contract
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from producers.kafka_writer import connect
from tests.support.pipeline import on_topic
from tests.support.services import Kafka

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def contract(request: pytest.FixtureRequest) -> Contract:
    """Give a contract with a topic of the test's own."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:120]
    return replace(HOURLY, topic=name)


def make_topic(bootstrap: str, name: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    named = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, num_partitions=1, config=named)])[name].result(timeout=30)


def fake_address() -> str:
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}"


@contextmanager
def mute(backlog: int | None) -> Iterator[str]:
    """Give an address that never answers: it takes connections, or not even those, as its backlog is full."""
    with ExitStack() as held:
        server = held.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(50 if backlog is None else backlog)
        if backlog is not None:
            for _ in range(backlog + 3):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(server.getsockname())
            time.sleep(0.1)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def by_ipv6(bootstrap: str) -> Iterator[str]:
    """Give an address of ::1 behind which the broker is."""
    host, port = bootstrap.split(":")
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, target):
                one.close()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            for pair in ((client, broker), (broker, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"[::1]:{server.getsockname()[1]}"
    finally:
        server.close()


def assert_all_of_weir_reaches(bootstrap: str, contract: Contract) -> None:
    """Every way in which weir asks a broker, but Spark's."""
    assert ensure_topic(bootstrap, contract, 2) == topic_id(bootstrap, contract.topic)
    assert answers(bootstrap)
    producer = connect(bootstrap, "test")
    producer.produce(contract.topic, b"x", partition=0)
    assert producer.flush(20) == 0
    with Broker(bootstrap) as broker:
        assert dict(broker.topic(contract.topic).bounds) == {0: (0, 1), 1: (0, 0)}
        assert broker.missing(contract.topic, {0: (0, 1)})[0].messages == 1
    assert end_offsets(bootstrap, contract.topic) == {0: 1, 1: 0}
    settings = Settings(home=Path("/nonexistent/weir"), kafka_bootstrap=bootstrap)
    assert next(one for one in collect(settings)["parts"] if one["part"] == "kafka")["state"] == "up"
    assert {one.check: one.says for one in examine(settings)}["kafka"] == f"{bootstrap} answers"


@pytest.mark.parametrize("where", ["dead first", "dead last", "full first", "mute first", "mute last", "name unknown", "ipv6", "protocol"])
def test_a_broker_is_reached_where_any_address_of_the_list_answers(kafka: Kafka, contract: Contract, where: str) -> None:
    contract = replace(contract, topic=contract.topic.replace(" ", "-"))
    with ExitStack() as held:
        good = kafka.bootstrap
        lists: dict[str, Callable[[], str]] = {
            "dead first": lambda: f"{fake_address()}, {good}",
            "dead last": lambda: f"{good},{fake_address()}",
            "full first": lambda: f"{held.enter_context(mute(0))},{good}",
            "mute first": lambda: f"{held.enter_context(mute(None))},{good}",
            "mute last": lambda: f"{good} , {held.enter_context(mute(None))}",
            "name unknown": lambda: f"no-such-host.invalid:9092,{good}",
            "ipv6": lambda: f"{fake_address()},{held.enter_context(by_ipv6(good))}",
            "protocol": lambda: f" PLAINTEXT://{good} ",
        }
        bootstrap = lists[where]()
        began = time.monotonic()
        assert_all_of_weir_reaches(bootstrap, contract)
        assert time.monotonic() - began < 30


def test_a_broker_is_unreachable_only_when_no_address_answers_and_that_is_said_soon(tmp_path: Path) -> None:
    dead = f"{fake_address()},{fake_address()}"
    assert not answers(dead)
    with mute(None) as silent:
        began = time.monotonic()
        assert not answers(f"{fake_address()},{silent}", seconds=1)
        with pytest.raises(NoKafkaError, match="none of its addresses takes a connection"), Broker(dead) as broker:
            broker.topic("any")
        status = collect(Settings(home=tmp_path, kafka_bootstrap=dead))
        assert time.monotonic() - began < 10
    assert next(one for one in status["parts"] if one["part"] == "kafka")["state"] == "down"
    assert status["queries"][0]["says"].startswith(f"no Kafka broker answers at {dead} within 5 s")


def test_addresses_are_tried_at_once_and_one_that_never_answers_is_left_out(kafka: Kafka) -> None:
    with ExitStack() as held:
        full = [held.enter_context(mute(0)) for _ in range(4)]
        silent = held.enter_context(mute(None))
        addresses = parse_bootstrap(",".join([*full, silent, kafka.bootstrap]))
        good, quiet = parse_bootstrap(kafka.bootstrap)[0], parse_bootstrap(silent)[0]
        began = time.monotonic()
        assert reachable(addresses, 1) == [quiet, good]
        assert usable(addresses, 1) == [good]
        assert time.monotonic() - began < 4
        assert usable([quiet], 1) == [quiet]  # it may be a broker that is held up: its client waits for it
    assert usable([Address("127.0.0.1", free_ports(1)[0])]) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"cleanup_policy": "compact"}, r"cleanup\.policy is compact, expected delete; .* `weir backfill` fetches them"),
        ({"cleanup_policy": "compact,delete", "message_timestamp_type": "LogAppendTime"}, "cleanup.policy is compact,delete"),
        ({"message_timestamp_type": "CreateTime"}, "message.timestamp.type is CreateTime, expected LogAppendTime"),
        ({}, "message.timestamp.type is CreateTime"),  # as the broker's defaults make it
        ({"cleanup_policy": "compact", "message_timestamp_type": "CreateTime"}, "cleanup.policy is .*; message.timestamp.type is "),
    ],
)
def test_a_topic_that_breaks_what_weir_relies_on_is_refused_with_the_command_that_alters_it(
    kafka: Kafka, contract: Contract, config: dict[str, str], said: str
) -> None:
    contract = replace(contract, topic=f"foreign-{time.time_ns()}")
    make_topic(kafka.bootstrap, contract.topic, **config)
    with pytest.raises(UnfitTopicError, match=said) as refused:
        ensure_topic(kafka.bootstrap, contract, 2)
    wanted = ",".join(f"{one.setting}={'delete' if 'policy' in one.setting else 'LogAppendTime'}" for one in refused.value.unfit)
    command = f"--bootstrap-server {kafka.bootstrap} --alter --entity-type topics --entity-name {contract.topic} --add-config {wanted}`"
    assert f"`kafka-configs.sh {command}" in str(refused.value)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Give a broker of this module's own: its defaults compact, it has an authorizer, and its files may be spoilt."""
    more = {
        "log.cleanup.policy": "compact",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_broker, "EMBEDDED", {**kafka_broker.EMBEDDED, **more})
        broker = EmbeddedKafka(folder / "kafka", folder / "kafka.log", environment=dict(os.environ))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


def test_a_topic_that_weir_makes_is_right_whatever_the_brokers_defaults_are_and_who_may_not_look_goes_on(
    own: EmbeddedKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap=own.bootstrap)

    def doctor() -> tuple[bool, str]:
        found = next(one for one in examine(settings) if one.check == "topic")
        return found.ok, next(said for said in found.says.split("; ") if said.startswith(HOURLY.topic))

    assert doctor() == (True, f"{HOURLY.topic} does not exist yet: the stream or the producer creates it")
    ensure_topic(own.bootstrap, HOURLY, 1)
    assert doctor() == (True, f"{HOURLY.topic} has cleanup.policy=delete, message.timestamp.type=LogAppendTime")

    def rule(operation: AclOperation, permission: AclPermissionType) -> AclBinding:
        where = ResourceType.TOPIC, HOURLY.topic, ResourcePatternType.LITERAL
        return AclBinding(*where, "User:ANONYMOUS", "*", operation, permission)

    rules = [rule(AclOperation.ALL, AclPermissionType.ALLOW), rule(AclOperation.DESCRIBE_CONFIGS, AclPermissionType.DENY)]
    admin = AdminClient({"bootstrap.servers": own.bootstrap})
    for future in admin.create_acls(rules).values():
        future.result(timeout=30)
    assert ensure_topic(own.bootstrap, HOURLY, 1) == topic_id(own.bootstrap, HOURLY.topic)
    assert check_topic(own.bootstrap, HOURLY.topic) is None
    assert "does not let weir describe" in capsys.readouterr().out
    assert doctor() == (True, f"{HOURLY.topic}: the broker does not let weir describe its settings")


def test_a_partition_whose_data_is_spoilt_is_told_by_its_offsets_and_holds_nothing_up(own: EmbeddedKafka, contract: Contract) -> None:
    contract = replace(contract, topic="spoilt")
    ensure_topic(own.bootstrap, contract, 2)
    producer = Producer({"bootstrap.servers": own.bootstrap, "compression.type": "lz4"})
    for partition in (0, 1):
        send(producer, contract.topic, 20, partition)
    (file,) = own.folder.rglob("spoilt-0/*.log")
    with file.open("r+b") as log:
        header, data = log.read(61), log.read()
        log.seek(len(header))
        log.write(bytes(byte ^ 0x5A for byte in data.rstrip(b"\0")))
    with Broker(own.bootstrap) as broker:
        began = time.monotonic()
        found = broker.missing(contract.topic, broker.topic(contract.topic).bounds)
        assert time.monotonic() - began < 5
    assert (found[0], found[1].messages) == (Missing(20), 20)
    assert found[1].since is not None


def test_doctor_names_a_topic_that_is_unfit(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = f"doctor-{time.time_ns()}"
    make_topic(kafka.bootstrap, topic, cleanup_policy="compact")
    built = on_topic(build_domain("air_quality", Settings()), topic)
    monkeypatch.setattr("lakehouse.registry.build_domain", lambda *_: built)
    (found,) = [one for one in examine(Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)) if one.check == "topic"]
    assert not found.ok
    assert f"Topic {topic}: cleanup.policy is compact, expected delete; message.timestamp.type is CreateTime" in found.says


def transactional(kafka: Kafka) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"t-{time.time_ns()}", "log_level": 0})
    producer.init_transactions(30)
    return producer


def send(producer: Producer, topic: str, messages: int, partition: int = 0, key: bytes | None = None) -> None:
    for n in range(messages):
        producer.produce(topic, json.dumps({"n": n}).encode(), key=key, partition=partition)
        producer.poll(0)
    assert producer.flush(30) == 0


def until_nothing_waits(broker: Broker, topic: str) -> TopicOffsets:
    """Wait for the control records, which the broker writes after it has said that a transaction ended."""
    limit = time.monotonic() + 30
    while any((found := broker.topic(topic)).waiting.values()):
        assert time.monotonic() < limit
        time.sleep(0.05)
    return found


def test_an_offset_without_a_message_is_not_counted_and_an_open_transaction_waits(kafka: Kafka, contract: Contract) -> None:
    topic = contract.topic
    ensure_topic(kafka.bootstrap, contract, 2)
    aborting, slow = transactional(kafka), transactional(kafka)
    for messages in (5, 1, 1200):
        aborting.begin_transaction()
        send(aborting, topic, messages)
        aborting.abort_transaction(30)
    with Broker(kafka.bootstrap) as broker:
        only_aborted = until_nothing_waits(broker, topic)
        end = 5 + 1 + 1200 + 3
        assert (dict(only_aborted.bounds), only_aborted.waiting) == ({0: (0, end), 1: (0, 0)}, {0: 0, 1: 0})
        began = time.monotonic()
        assert broker.missing(topic, {0: (0, end), 1: (0, 0)}) == {0: Missing(0), 1: Missing(0)}
        assert time.monotonic() - began < 2
        aborting.begin_transaction()
        send(aborting, topic, 3)
        aborting.commit_transaction(30)
        until_nothing_waits(broker, topic)
        slow.begin_transaction()
        send(slow, topic, 4)
        found = broker.topic(topic)
        assert (found.bounds[0][1], found.waiting[0]) == (end + 4, 4)
        few = broker.missing(topic, {0: (end - 100, end + 4)})[0]
        assert (few.messages, few.since is not None) == (3, True)
        many = broker.missing(topic, {0: (0, end + 4)})[0]  # more than are counted: at most so many
        assert (many.messages, many.since) == (end + 4, few.since)
        slow.commit_transaction(30)
        assert broker.missing(topic, {0: (end, until_nothing_waits(broker, topic).bounds[0][1])})[0].messages == 7


def test_a_stamp_by_the_producer_is_no_arrival(kafka: Kafka, contract: Contract) -> None:
    make_topic(kafka.bootstrap, contract.topic, message_timestamp_type="CreateTime")
    send(Producer({"bootstrap.servers": kafka.bootstrap}), contract.topic, 2)
    with Broker(kafka.bootstrap) as broker:
        assert broker.missing(contract.topic, {0: (0, 2)}) == {0: Missing(2, None)}


def test_a_hundred_partitions_are_looked_at_within_seconds(kafka: Kafka, contract: Contract) -> None:
    ensure_topic(kafka.bootstrap, contract, 100)
    aborting = transactional(kafka)
    aborting.begin_transaction()
    for partition in range(100):
        send(aborting, contract.topic, 1, partition) if partition < 3 else aborting.produce(contract.topic, b"x", partition=partition)
    assert aborting.flush(30) == 0
    aborting.abort_transaction(30)
    plain = Producer({"bootstrap.servers": kafka.bootstrap})
    for partition in range(0, 100, 2):
        plain.produce(contract.topic, b"y", partition=partition)
    assert plain.flush(30) == 0
    with Broker(kafka.bootstrap) as broker:
        until_nothing_waits(broker, contract.topic)
        for _ in range(2):
            began = time.monotonic()
            bounds = broker.topic(contract.topic).bounds
            found = broker.missing(contract.topic, bounds)
            assert time.monotonic() - began < 4
            assert {partition: one.messages for partition, one in found.items()} == {p: int(p % 2 == 0) for p in range(100)}


def test_offsets_that_compaction_took_are_not_counted(kafka: Kafka, contract: Contract) -> None:
    fast = {"segment_ms": "100", "min_cleanable_dirty_ratio": "0.001", "max_compaction_lag_ms": "100"}
    make_topic(kafka.bootstrap, contract.topic, cleanup_policy="compact", message_timestamp_type="LogAppendTime", **fast)
    producer, limit = Producer({"bootstrap.servers": kafka.bootstrap}), time.monotonic() + 90
    send(producer, contract.topic, 50, key=b"hanoi")
    with Broker(kafka.bootstrap) as broker:
        while True:  # the cleaner looks every 15 s
            send(producer, contract.topic, 1, key=b"hanoi")
            end = broker.topic(contract.topic).bounds[0][1]
            found = broker.missing(contract.topic, {0: (0, end)})[0]
            if found.messages < end // 2:
                break
            assert time.monotonic() < limit
            time.sleep(1)
    assert found.since is not None


def test_a_partition_that_was_cut_is_counted_from_what_is_left(kafka: Kafka, contract: Contract) -> None:
    ensure_topic(kafka.bootstrap, contract, 1)
    send(Producer({"bootstrap.servers": kafka.bootstrap}), contract.topic, 10)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    cut = TopicPartition(contract.topic, 0, 7)
    admin.delete_records([cut])[cut].result(timeout=30)
    with Broker(kafka.bootstrap) as broker:
        assert broker.missing(contract.topic, {0: (2, 10)})[0].messages == 3
