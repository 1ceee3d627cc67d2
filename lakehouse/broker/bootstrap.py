"""Which addresses does a bootstrap list name, and which of them can be asked? The one address for both questions.

Kafka's clients read such a list each in its own way; all of weir's get it as `bootstrap_text` writes it. A broker counts as
unreachable only when no address of the list takes a connection.
"""

import re
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from lakehouse.errors import Fatal, LakehouseError

# Brokers are on the same machine, or near: an address that has not taken a connection by then does not count.
REACH_SECONDS = 2.0
# How long the others are waited for once one address is found.
GRACE_SECONDS = 0.3
FORM = "HOST:PORT[,HOST:PORT…], such as kafka-1:9092,10.0.0.7:9092,[::1]:9092"
_ENTRY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\s:\[\]/@]+)):(?P<port>\d{1,5})")
_PROTOCOL = re.compile(r"(?P<protocol>[A-Za-z_]+)://")


class BadBootstrapError(LakehouseError, Fatal):
    """An entry of the bootstrap list is no address."""

    def __init__(self, text: str, entry: str, why: str) -> None:
        self.says = f"{entry!r} {why}; expected {FORM}"
        super().__init__(f"WEIR_KAFKA_BOOTSTRAP {text!r}: {self.says}.")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker listens; `host` is a name, an IPv4 or an IPv6 address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_bootstrap(text: str) -> list[Address]:
    """Read a bootstrap list: addresses with commas between them, blanks around them, each with `PLAINTEXT://` before it or not.

    Raises:
        BadBootstrapError: an entry is none, or there is none.
    """
    entries = [entry.strip() for entry in text.split(",")]
    found = [_address(text, entry) for entry in entries if entry]
    if not found:
        raise BadBootstrapError(text, text, "names no address")
    return list(dict.fromkeys(found))


def bootstrap_text(addresses: Iterable[Address]) -> str:
    """Write addresses as every Kafka client reads them."""
    return ",".join(str(one) for one in addresses)


def plain(bootstrap: str) -> str:
    """Normalize a bootstrap list to the form that every Kafka client reads.

    Raises:
        BadBootstrapError: an entry is no address.
    """
    return bootstrap_text(parse_bootstrap(bootstrap))


def reachable(addresses: Sequence[Address], seconds: float = REACH_SECONDS) -> list[Address]:
    """Find the addresses that take a connection, in their order; all are tried at once, so it takes `seconds` at most."""
    return _those(addresses, lambda one: _connects(one, seconds))


def usable(addresses: Sequence[Address], seconds: float = REACH_SECONDS) -> list[Address]:
    """Find the addresses to ask now, in their order: those that answer; where none does, those that take a connection.

    A program that takes connections and never answers would hold a client up for as long as its requests may take, 30 s mostly.
    """
    connected = reachable(addresses, seconds)
    return connected if len(connected) < 2 else answering(connected, seconds) or connected


def answering(addresses: Sequence[Address], seconds: float = REACH_SECONDS) -> list[Address]:
    """Find the addresses behind which a broker answers, in their order; all are asked at once."""
    return _those(addresses, lambda one: _answers(one, seconds))


def client_text(bootstrap: str) -> str:
    """Write a bootstrap list for a client that lives for long: of several addresses those that answer now; all where none does.

    Raises:
        BadBootstrapError: an entry is no address.
    """
    addresses = parse_bootstrap(bootstrap)
    return bootstrap_text((answering(addresses) if len(addresses) > 1 else []) or addresses)


def _those(addresses: Sequence[Address], holds: Callable[[Address], bool]) -> list[Address]:
    if not addresses:
        return []
    pool = ThreadPoolExecutor(len(addresses), "weir-reach")
    asked = {pool.submit(holds, one): one for one in addresses}
    found: set[Address] = set()
    left: set[Future[bool]] = set(asked)
    while left:
        # One that holds is enough to go on with: the others have a moment more, not all the time that one that hangs may take.
        done, left = wait(left, GRACE_SECONDS if found else None, FIRST_COMPLETED)
        found |= {asked[one] for one in done if one.result()}
        if found and not done:
            break
    pool.shutdown(wait=False)
    return [one for one in addresses if one in found]


def _connects(address: Address, seconds: float) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=seconds).close()
    except (OSError, UnicodeError):  # a host name that cannot be encoded is a UnicodeError
        return False
    return True


# ApiVersions, version 0, correlation id 1, no client id: the one request that every broker answers to whoever connects.
_REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)


def _answers(address: Address, seconds: float) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=seconds) as connection:
            connection.sendall(_REQUEST)
            return len(connection.recv(1)) == 1
    except (OSError, UnicodeError):
        return False


def _address(text: str, entry: str) -> Address:
    rest = entry
    if found := _PROTOCOL.match(entry):
        if found["protocol"].upper() != "PLAINTEXT":
            raise BadBootstrapError(text, entry, f"asks for {found['protocol']}, weir speaks PLAINTEXT only")
        rest = entry[found.end() :]
    matched = _ENTRY.fullmatch(rest)
    if matched is None:
        raise BadBootstrapError(text, entry, _why(rest))
    port = int(matched["port"])
    if not 0 < port < 1 << 16:
        raise BadBootstrapError(text, entry, f"has port {port}, which is not between 1 and 65535")
    return Address(matched["v6"] or matched["host"], port)


def _why(rest: str) -> str:
    if rest.count(":") > 1 and "[" not in rest:
        return "is an IPv6 address without brackets, or holds more than one colon"
    if not re.search(r":\d+$", rest):
        return "has no port"
    return "is no address"
