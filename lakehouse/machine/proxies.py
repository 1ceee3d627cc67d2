"""Through which proxy does a request go, if any?

One function decides for every request that weir makes itself. A host on this machine is never asked through a proxy; for all others
http_proxy, https_proxy, all_proxy and no_proxy (or in capitals) hold as `requests` reads them.
"""

import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from lakehouse.errors import Fatal, LakehouseError

# What `requests` takes for "no proxy": a name that is not there would be looked up in the environment.
NONE = {"http": "", "https": "", "all": ""}
# Names and networks of this machine as no_proxy lists them: for libraries that make requests of their own.
THIS_MACHINE = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1")


class BadProxyError(LakehouseError, Fatal):
    """A proxy is set that weir cannot use. Its password is not in the message."""

    def __init__(self, variable: str, shown: str, reason: str, host: str = "") -> None:
        super().__init__(
            f"The proxy {variable}={shown} cannot be used{f' for {host}' if host else ''}: {reason}. Set {variable} to http://HOST:PORT"
            f"{f', unset it, or add {host} to no_proxy' if host else ' or unset it'}."
        )
        self.variable = variable


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the environment.

    Attributes:
        variable: that names it, such as https_proxy.
        scheme, host, port: where it listens, and how it is spoken to.
        user, password: decoded; empty where there is none.
        url: with user and password, as the HTTP library takes it.
    """

    variable: str
    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    url: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port} ({self.variable})"


def is_loopback(url: str) -> bool:
    """Return whether a URL's host is this machine by its loopback: localhost, 127.0.0.0/8, ::1, in whatever notation."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # a bracket without its other half
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        address = ip_address(host)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback
    with suppress(OSError):  # 127.1 and 0x7f000001 mean the same to the resolver
        return bool(re.fullmatch(r"[0-9a-fx.]+", host)) and socket.inet_aton(host)[0] == 127
    return False


def proxy_of(url: str) -> Proxy | None:
    """Decide through which proxy a URL is asked; None asks it directly.

    Raises:
        BadProxyError: the environment names one that cannot be used.
    """
    if is_loopback(url):
        return None
    import requests

    where = urlsplit(url)
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return _parse(_variable(where.scheme, os.environ), found, where.hostname or url) if found else None


def proxies_argument(proxy: Proxy | None) -> dict[str, str]:
    """Return what `requests` takes as `proxies` for a decision of `proxy_of`."""
    return {"http": proxy.url, "https": proxy.url} if proxy else dict(NONE)


def proxy_for(scheme: str, environment: Mapping[str, str]) -> Proxy | None:
    """Name the proxy for a scheme whatever the host: for a program that looks at no_proxy itself.

    Raises:
        BadProxyError: it cannot be used.
    """
    variable = _variable(scheme, environment)
    return _parse(variable, environment[variable], "") if variable else None


def excepted_hosts(environment: Mapping[str, str]) -> list[str]:
    """List the hosts of no_proxy, and this machine, which is never asked through a proxy."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in re.split(r"[,\s]+", given) if host.strip()]
    return [*hosts, *(host for host in THIS_MACHINE if host not in hosts)]


def leave_out_this_machine(environment: MutableMapping[str, str]) -> None:
    """Add this machine to no_proxy, for libraries and programs that ask by themselves; nothing where there is no proxy."""
    if any(_variable(scheme, environment) for scheme in ("http", "https")):
        environment["no_proxy"] = environment["NO_PROXY"] = ",".join(excepted_hosts(environment))


def _variable(scheme: str, environment: Mapping[str, str]) -> str:
    """Name the variable that holds for a scheme, in the order of the HTTP library; empty where there is none."""
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        if environment.get(name):
            return name
    return ""


def _parse(variable: str, value: str, host: str) -> Proxy:
    whole = value if "://" in value else f"http://{value}"  # as the HTTP library reads it
    try:
        where: SplitResult = urlsplit(whole)
        name, port = where.hostname or "", where.port
    except ValueError as error:
        raise BadProxyError(variable, _without_password(value), f"it is no address ({error})", host) from None
    shown = _without_password(value)
    if where.scheme.startswith("socks"):
        raise BadProxyError(variable, shown, "weir speaks to HTTP proxies only, not SOCKS", host)
    if where.scheme not in ("http", "https"):
        raise BadProxyError(variable, shown, f"{where.scheme}:// is no kind of HTTP proxy", host)
    if not name or not re.fullmatch(r"[\w.:%-]+", name):
        raise BadProxyError(variable, shown, "it names no host", host)
    user, password = unquote(where.username or ""), unquote(where.password or "")
    return Proxy(variable, where.scheme, name, port or (443 if where.scheme == "https" else 80), user, password, whole)


def _without_password(value: str) -> str:
    """Show a proxy as it is set, without user and password."""
    head, at, tail = value.rpartition("@")
    scheme, mark, _ = head.partition("://")
    return f"{scheme}{mark}***@{tail}" if at and mark else f"***@{tail}" if at else value
