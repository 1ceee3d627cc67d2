"""Did the API answer, or somebody on the way: a proxy, or a network's log-in page?

What stands between answers in HTML, redirects, or asks for credentials; the API does neither. None of it says anything of the API or
the data.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from lakehouse.errors import Fatal, ProducerError, Retryable
from lakehouse.machine.proxies import Proxy

TITLE_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Api:
    """Who should have answered: the name for people, the address, and the setting that holds it."""

    name: str
    url: str
    setting: str


class InterceptedError(ProducerError):
    """Somebody else answered for the API, and would again at once: it concerns all entities."""


class PortalError(InterceptedError, Retryable):
    """A log-in page, a block page or a redirect came instead of the API's answer; it may be gone at the next poll."""


class ProxyRefusedError(InterceptedError, Fatal):
    """The proxy wants a user and a password, or others than it was given."""


def foreign_answer(status: int, headers: Mapping[str, str], body: bytes, proxy: Proxy | None) -> str | None:
    """Describe an answer that is not the API's; None for one that is, or may be.

    Args:
        status: of the answer.
        headers: of the answer; names in any case.
        body: of the answer, or as much of it as arrived.
        proxy: that the request went through.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    text = body[:65_536].decode("utf-8-sig", errors="replace").lstrip()
    if 300 <= status < 400:
        return f"status {status}, a redirect to {_target(headers)}"
    # JSON never begins with this, whatever the answer calls itself.
    if text.startswith("<") or (kind in ("text/html", "application/xhtml+xml") and not text.startswith(("{", "["))):
        return f"status {status}, {_page(text)}"
    if status in (407, 511) or (proxy is not None and status >= 500 and kind != "application/json" and not text.startswith("{")):
        return f"status {status}, {_shown(text) or 'no text'}"
    return None


def intercepted(status: int, what: str, asked: str, api: Api, proxy: Proxy | None) -> InterceptedError | None:
    """Make the error of a foreign answer; None for an outage between proxy and API (5xx), which may be over in a second."""
    if status >= 500 and status != 511:
        return None
    kind = ProxyRefusedError if _is_about_credentials(status, proxy) else PortalError
    return kind(f"{sentence(what, asked, api, proxy)} {next_step(status, api, proxy)}")


def sentence(what: str, asked: str, api: Api, proxy: Proxy | None) -> str:
    """Say who answered, and what."""
    way = f"through the proxy {proxy}" if proxy else "without a proxy of the environment"
    return f"A proxy or a network's log-in page answered instead of {api.name}: {what}; asked for {asked} {way}."


def next_step(status: int, api: Api, proxy: Proxy | None) -> str:
    """Say what the operator does about it."""
    host = urlsplit(api.url).hostname or api.url
    if _is_about_credentials(status, proxy):
        where = proxy.variable if proxy else "https_proxy"
        if proxy and proxy.user:
            return f"The proxy does not take the user and password in {where}: correct them there (special characters as %XX)."
        return f"The proxy wants credentials: set {where} to http://USER:PASSWORD@HOST:PORT (special characters as %XX)."
    if status == 403:
        return f"Ask whoever runs the proxy to allow {host}, or add {host} to no_proxy where it can be reached directly."
    if status >= 500 and status != 511:
        return f"Check that the proxy reaches {host}. Run it again later."
    if 300 <= status < 400:
        log_in = f"Log in where that page asks for it{f', check {proxy.variable}' if proxy else ''}, and run it again"
        return f"{log_in}; if it is the API's new address, set {api.setting} to it."
    if proxy:
        return f"Check {proxy.variable} and log in where that page asks for it, or add {host} to no_proxy; run it again then."
    return f"Log in to the network, or set https_proxy if it has a proxy for {host}; run it again then."


def _is_about_credentials(status: int, proxy: Proxy | None) -> bool:
    # tinyproxy answers 407 where there are none, and 401 where they are wrong.
    return status == 407 or (status == 401 and proxy is not None)


def tunnel_status(message: str) -> int | None:
    """Read with which status a proxy refused to open a tunnel, from the HTTP library's text, which alone has it."""
    found = re.search(r"Tunnel connection failed: (\d{3})", message)
    return int(found[1]) if found else None


def _target(headers: Mapping[str, str]) -> str:
    # Without the path: a log-in page's address may hold what only its user should see.
    try:
        location = urlsplit(headers.get("location", ""))
        host = location.hostname
    except ValueError:
        return "nowhere"
    return f"{location.scheme or 'http'}://{host}" if host else "another page of the same address"


def _page(text: str) -> str:
    for tag in ("title", "h1"):
        found = re.search(rf"<{tag}\b[^>]*>(.*?)(?:</{tag}|<|\Z)", text, re.IGNORECASE | re.DOTALL)
        if found and (said := _shown(html.unescape(found[1]))):
            return f'the page "{said}"'
    return f'a page without a title ("{_shown(text)}")' if text else "an empty page"


def _shown(text: str) -> str:
    """One line of it, without what could move a terminal's cursor."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= TITLE_LENGTH else f"{line[:TITLE_LENGTH]}…"
