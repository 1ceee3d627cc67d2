"""Did the API answer, or a proxy or a network's log-in page instead?

These answer in HTML, redirect, or ask for credentials, which the API never does. Such an answer says nothing about the API or its data.
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
    """The API that should have answered: its name for people, its URL, and the setting with the URL."""

    name: str
    url: str
    setting: str


class InterceptedError(ProducerError):
    """A proxy or a log-in page answered instead of the API, and an immediate retry would fail too. It concerns all entities."""


class PortalError(InterceptedError, Retryable):
    """A log-in page, a block page or a redirect came instead of the API's answer; the next poll may succeed."""


class ProxyRefusedError(InterceptedError, Fatal):
    """The proxy requires a user and a password, or rejects the given ones."""


def foreign_answer(status: int, headers: Mapping[str, str], body: bytes, proxy: Proxy | None) -> str | None:
    """Describe an answer that did not come from the API; return None for one that did, or may have.

    Args:
        status: of the answer.
        headers: of the answer; names in any case.
        body: of the answer, or as much of it as arrived.
        proxy: the proxy that the request went through, if any.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    text = body[:65_536].decode("utf-8-sig", errors="replace").lstrip()
    if 300 <= status < 400:
        return f"status {status}, a redirect to {_target(headers)}"
    # JSON never begins with `<`, whatever the content type says.
    if text.startswith("<") or (kind in ("text/html", "application/xhtml+xml") and not text.startswith(("{", "["))):
        return f"status {status}, {_page(text)}"
    if status in (407, 511) or (proxy is not None and status >= 500 and kind != "application/json" and not text.startswith("{")):
        return f"status {status}, {_shown(text) or 'no text'}"
    return None


def intercepted(status: int, what: str, asked: str, api: Api, proxy: Proxy | None) -> InterceptedError | None:
    """Return the error for a foreign answer; None for an outage between proxy and API (5xx), which may be over in a second."""
    if status >= 500 and status != 511:
        return None
    kind = ProxyRefusedError if _is_about_credentials(status, proxy) else PortalError
    return kind(f"{sentence(what, asked, api, proxy)} {next_step(status, api, proxy)}")


def sentence(what: str, asked: str, api: Api, proxy: Proxy | None) -> str:
    """Describe the answer in a sentence, for an error message."""
    way = f"through the proxy {proxy}" if proxy else "without a proxy from the environment"
    return f"A proxy or a network's log-in page answered instead of {api.name}: {what}; requested: {asked} {way}."


def next_step(status: int, api: Api, proxy: Proxy | None) -> str:
    """Return what the operator should do."""
    host = urlsplit(api.url).hostname or api.url
    if _is_about_credentials(status, proxy):
        where = proxy.variable if proxy else "https_proxy"
        if proxy and proxy.user:
            return f"The proxy rejects the user and password in {where}: correct them there (special characters as %XX)."
        return f"The proxy requires credentials: set {where} to http://USER:PASSWORD@HOST:PORT (special characters as %XX)."
    if status == 403:
        return f"Ask the proxy's administrator to allow {host}, or add {host} to no_proxy if it can be reached directly."
    if status >= 500 and status != 511:
        return f"Check that the proxy can reach {host}. Run it again later."
    if 300 <= status < 400:
        log_in = f"Log in on that page if it asks for it{f', check {proxy.variable}' if proxy else ''}, and run it again"
        return f"{log_in}; if it is the API's new address, set {api.setting} to it."
    if proxy:
        return f"Check {proxy.variable} and log in on that page if it asks for it, or add {host} to no_proxy; then run it again."
    return f"Log in to the network, or set https_proxy if it has a proxy for {host}; then run it again."


def _is_about_credentials(status: int, proxy: Proxy | None) -> bool:
    # tinyproxy answers 407 to missing credentials, and 401 to wrong ones.
    return status == 407 or (status == 401 and proxy is not None)


def tunnel_status(message: str) -> int | None:
    """Read the status with which a proxy refused to open a tunnel, from the HTTP library's message, the only place that has it."""
    match = re.search(r"Tunnel connection failed: (\d{3})", message)
    return int(match[1]) if match else None


def _target(headers: Mapping[str, str]) -> str:
    # Without the path, since a log-in page's URL may contain private data of its user.
    try:
        location = urlsplit(headers.get("location", ""))
        host = location.hostname
    except ValueError:
        return "an invalid address"
    return f"{location.scheme or 'http'}://{host}" if host else "another page of the same host"


def _page(text: str) -> str:
    for tag in ("title", "h1"):
        match = re.search(rf"<{tag}\b[^>]*>(.*?)(?:</{tag}|<|\Z)", text, re.IGNORECASE | re.DOTALL)
        if match and (title := _shown(html.unescape(match[1]))):
            return f'the page "{title}"'
    return f'a page without a title ("{_shown(text)}")' if text else "an empty page"


def _shown(text: str) -> str:
    """Return the text as one line of limited length, without characters that could move a terminal's cursor."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= TITLE_LENGTH else f"{line[:TITLE_LENGTH]}…"
