"""Is a bootstrap list read as Kafka's clients read it, and is a wrong entry named?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.broker.bootstrap import Address, BadBootstrapError, bootstrap_text, parse_bootstrap, plain
from lakehouse.errors import SettingsError
from lakehouse.settings import Settings, load_settings

HOSTS = st.one_of(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), st.ip_addresses().map(str))
ADDRESSES = st.builds(Address, HOSTS, st.integers(1, 65535))


@given(st.lists(ADDRESSES, min_size=1, max_size=5, unique=True), st.sampled_from(["", " ", "PLAINTEXT://", " plaintext://"]))
def test_every_list_is_read_back(addresses: list[Address], before: str) -> None:
    text = " ,".join(f"{before}{one}" for one in addresses)
    assert parse_bootstrap(text) == addresses
    assert plain(text) == bootstrap_text(addresses)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka-1", "'kafka-1' has no port"),
        ("a:1,::1:9092", "'::1:9092' is an IPv6 address without brackets"),
        ("[::1]", r"'\[::1\]' has no port"),
        ("a:0", "'a:0' has port 0, which is not between 1 and 65535"),
        ("a:99999", "has port 99999"),
        ("a:b", "'a:b' has no port"),
        ("SASL_SSL://a:9092", "asks for SASL_SSL, weir speaks PLAINTEXT only"),
        ("a b:9092", "'a b:9092' is no address"),
        (" , ", "names no address"),
    ],
)
def test_an_entry_that_is_none_is_named_with_the_form(text: str, said: str) -> None:
    with pytest.raises(BadBootstrapError, match=said) as error:
        parse_bootstrap(text)
    assert "HOST:PORT[,HOST:PORT…], such as kafka-1:9092,10.0.0.7:9092,[::1]:9092" in str(error.value)


def test_a_setting_that_is_no_list_is_told_with_the_other_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP", "here")
    monkeypatch.setenv("WEIR_TRIGGER_SECONDS", "soon")
    with pytest.raises(SettingsError, match=r"kafka_bootstrap: 'here' - .*'here' has no port; expected HOST:PORT") as error:
        load_settings({})
    assert "trigger_seconds" in str(error.value)
    monkeypatch.delenv("WEIR_TRIGGER_SECONDS")
    monkeypatch.delenv("WEIR_KAFKA_BOOTSTRAP")
    assert Settings(kafka_bootstrap="[::1]:9092 , b:1").kafka_bootstrap == "[::1]:9092 , b:1"
    assert Settings(kafka_bootstrap="  ").kafka_bootstrap == ""
