"""Which requests go through a proxy, and which never do?"""

import pytest

from lakehouse.machine.proxies import (
    BadProxyError,
    excepted_hosts,
    is_loopback,
    leave_out_this_machine,
    proxies_argument,
    proxy_for,
    proxy_of,
)


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


HERE = ["127.0.0.1", "127.8.9.10:80", "127.1", "localhost", "LOCALHOST:8080", "localhost.", "a.localhost", "[::1]:80", "[::ffff:127.0.0.1]"]
ELSEWHERE = ["air-quality-api.open-meteo.com", "10.0.0.1", "localhost.example.org", "[2001:db8::1]:80", "128.0.0.1", "127.example.org"]


@pytest.mark.parametrize("host", HERE)
def test_this_machine_is_never_asked_through_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy:3128")
    assert is_loopback(f"http://{host}")
    assert proxy_of(f"http://{host}") is None
    assert proxy_of(f"https://{host}") is None


@pytest.mark.parametrize("host", ELSEWHERE)
def test_other_hosts_are_asked_through_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_loopback(f"http://{host}")
    assert proxy_of(f"http://{host}") is None
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    assert str(proxy_of(f"http://{host}")) == "http://proxy:3128 (ALL_PROXY)"
    monkeypatch.setenv("https_proxy", "other")
    assert str(proxy_of(f"https://{host}")) == "http://other:80 (https_proxy)"
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,.open-meteo.com" if host.startswith(("10.", "air")) else "*")
    assert proxy_of(f"https://{host}") is None
    assert proxies_argument(None) == {"http": "", "https": "", "all": ""}


def test_user_and_password_are_decoded_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me%40here:s3cr%3Aet@[2001:db8::1]:3128/")
    proxy = proxy_of("https://example.org")
    assert proxy is not None
    assert (proxy.user, proxy.password, proxy.host, proxy.port) == ("me@here", "s3cr:et", "2001:db8::1", 3128)
    assert str(proxy) == "http://[2001:db8::1]:3128 (https_proxy)"
    assert "s3cr" not in repr(proxy)


def test_programs_of_their_own_leave_this_machine_out() -> None:
    environment = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.org, .lan"}
    leave_out_this_machine(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,.lan,localhost,127.0.0.1,127.0.0.0/8,::1"
    leave_out_this_machine(environment)
    assert excepted_hosts(environment) == environment["no_proxy"].split(",")
    assert proxy_for("http", environment) is None
    assert str(proxy_for("https", environment)) == "http://proxy:3128 (HTTPS_PROXY)"
    without: dict[str, str] = {}
    leave_out_this_machine(without)
    assert without == {}


def test_a_setting_without_sense_is_refused_without_its_password() -> None:
    with pytest.raises(BadProxyError, match=r"all_proxy=socks5://\*\*\*@host cannot be used"):
        proxy_for("https", {"all_proxy": "socks5://me:pw@host"})
    with pytest.raises(BadProxyError, match=r"http_proxy=\*\*\*@: cannot be used|http_proxy=\*\*\*@:x"):
        proxy_for("http", {"http_proxy": "me:pw@:x"})
