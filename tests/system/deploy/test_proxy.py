"""A machine that reaches the rest of the world through a proxy only: set-up, the producer, and what never goes through it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local import jars as jars_module
from deploy.local.errors import JarsUnavailable
from deploy.local.jars import fetch, locked_jars
from deploy.local.services.open_meteo_server import OpenMeteoServer
from tests.support.forward_proxy import ForwardProxy
from tests.support.services import Kafka

ROOT = Path(__file__).parents[3]
USER, PASSWORD = "us er@x", 's3cret:"%\\&<'
SMALL = [jar for jar in locked_jars() if jar.artifact in ("commons-pool2", "hadoop-bare-naked-local-fs")]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    with ForwardProxy(tmp_path_factory.mktemp("proxy")) as started:
        yield started


@pytest.fixture(scope="module")
def closed_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    with ForwardProxy(tmp_path_factory.mktemp("closed-proxy"), USER, PASSWORD) as started:
        yield started


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | more


@pytest.mark.parametrize("resolver", ["by_maven", "by_ivy"])
def test_jars_come_through_a_proxy_with_a_password_that_no_command_line_shows(
    resolver: str, closed_proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resolver == "by_maven" and shutil.which("mvn") is None:
        pytest.skip("there is no Maven here; set-up takes Ivy then")
    other = "by_ivy" if resolver == "by_maven" else "by_maven"
    monkeypatch.setattr(jars_module, other, lambda *_: None)
    commands: list[list[str]] = []
    run = subprocess.run

    def noted(command: list[str], **how: Any) -> Any:  # noqa: ANN401 - as subprocess.run
        commands.append(command)
        return run(command, **how)

    monkeypatch.setattr(subprocess, "run", noted)
    own_cache = f"-Dmaven.repo.local={tmp_path / 'm2'}"
    given = environment(HTTPS_PROXY=closed_proxy.url, MAVEN_OPTS=own_cache)
    assert fetch(tmp_path / "jars", given, SMALL) == 2
    assert [line for line in closed_proxy.requests() if line.startswith("CONNECT") and ":443" in line]
    assert "s3cret" not in json.dumps([[str(part) for part in command] for command in commands])
    assert [file.name for file in tmp_path.rglob("*") if file.is_file() and b"s3cret" in file.read_bytes()] == []


def test_jars_through_a_proxy_that_refuses_say_which(closed_proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars_module, "by_maven", lambda *_: None)
    wrong = f"http://{USER.split()[0]}:wr0ng@{closed_proxy.address}"
    with pytest.raises(JarsUnavailable, match=rf"with the proxy https_proxy=http://{closed_proxy.address}") as caught:
        fetch(tmp_path / "jars", environment(https_proxy=wrong), SMALL)
    assert "wr0ng" not in str(caught.value)


def test_producer_reaches_the_api_through_the_proxy_and_one_on_the_loopback_without(
    proxy: ForwardProxy, kafka: Kafka, api: OpenMeteoServer, tmp_path: Path
) -> None:
    port = api.url.rpartition(":")[2]
    proxy.requests()

    def produce(home: str, url: str) -> subprocess.CompletedProcess[str]:
        given = environment(
            http_proxy=proxy.url,
            WEIR_HOME=str(tmp_path / home),
            WEIR_BUDGET_PATH=str(tmp_path / "budget.db"),
            WEIR_KAFKA_BOOTSTRAP=kafka.bootstrap,
            WEIR_OPEN_METEO_URL=url,
        )
        command = [sys.executable, "-m", "weir", "produce", "open-meteo", "--locations", "hanoi", "--once", "--json"]
        return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)

    for url in (f"http://LocalHost:{port}", f"http://127.0.0.1:{port}"):
        done = produce("here", url)
        assert done.returncode == 0, done.stderr
    assert len(api.requests) == 2
    assert proxy.requests() == []

    done = produce("there", f"http://air-quality.invalid:{port}")
    assert done.returncode == 0, done.stderr
    assert len(api.requests) == 3
    (line,) = proxy.requests()
    assert line.startswith(f"GET air-quality.invalid:{port}/v1/air-quality?")


def test_proxy_that_wants_credentials_is_named_for_http_and_https(closed_proxy: ForwardProxy, kafka: Kafka, tmp_path: Path) -> None:
    for scheme in ("http", "https"):
        given = environment(
            all_proxy=f"http://me:wr0ng@{closed_proxy.address}",
            WEIR_HOME=str(tmp_path / scheme),
            WEIR_BUDGET_PATH=str(tmp_path / "budget.db"),
            WEIR_KAFKA_BOOTSTRAP=kafka.bootstrap,
            WEIR_OPEN_METEO_URL=f"{scheme}://air-quality.invalid",
        )
        command = [sys.executable, "-m", "weir", "produce", "open-meteo", "--once"]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, done.stderr
        last = done.stderr.splitlines()[-1]
        assert "A proxy or a network's log-in page answered instead of Open-Meteo: status 407" in last
        assert "The proxy rejects the user and password in all_proxy" in last
        assert "wr0ng" not in done.stderr
        assert "Traceback" not in done.stderr
