"""How is a page of Kaggle's dataset list fetched? By Kaggle's own client, with timeouts and errors of weir's kind.

The client posts to `datasets.DatasetApiService/ListDatasets` and raises whatever its HTTP library raises; it has no timeout, follows
redirects, and takes a log-in page for broken JSON. So its session gets an adapter that bounds each call and looks at the answer first. The
address is the client's own, or WEIR_KAGGLE_URL. Credentials are the client's affair: weir never sees them.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from lakehouse.contract import Value
from lakehouse.errors import Fatal, ProducerError
from lakehouse.machine.proxies import is_loopback, proxy_of
from lakehouse.settings import Settings
from producers import intercepted
from producers.budget import Budget, LimitSpan, limit_boundary
from producers.call_errors import BrokenAnswerError, LimitError, NotReachedError, RefusedError, UnavailableError
from producers.calls import Calls
from producers.clock import Clock
from producers.intercepted import Api

# The most that the API gives.
PAGE_SIZE = 200
CONNECT_SECONDS, READ_SECONDS, WHOLE_ANSWER_SECONDS = 5.0, 30.0, 120.0


class UnfitKagglePackageError(ProducerError, Fatal):
    """Kaggle's package is missing, or of a release in which its address cannot be set."""


class BareAnswerError(BrokenAnswerError):
    """An answer has no list of datasets at all: the end of the list, or something that is no answer of the API."""


class StaleTokenError(RefusedError):
    """Kaggle does not take the token of a page: it is too old, or the list has changed."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        rows: a dataset each, as the contract has it, without the times of the poll.
        token: of the next page; empty where this is the last.
        answered: when it was answered, UTC.
    """

    rows: list[dict[str, Value]]
    token: str
    answered: datetime


class DatasetList:
    """A client of the list. Not thread-safe; close it, or use it in a `with` block."""

    def __init__(
        self,
        url: str,
        order: str,
        clock: Clock,
        is_stopping: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._url, self._order, self._clock = url.rstrip("/"), order, clock
        self._api = Api("Kaggle", self._url, "WEIR_KAGGLE_URL")
        self._calls = Calls("kaggle", "Kaggle", clock, is_stopping, budget)
        self._client: Any = None
        self._adapter = _Bounded(self._api, read_seconds)

    def __enter__(self) -> "DatasetList":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None

    def page(self, token: str, number: int) -> Page:
        """Fetch one page, with the retries and waits of `Calls.make`.

        Args:
            token: of the page; empty for the first one, and where the API gave no token.
            number: of the page, from 1.

        Raises:
            StaleTokenError: the token is refused.
            RefusedError: the credentials are refused.
            LimitError, InterceptedError, UnavailableError, BrokenAnswerError: see `Calls.make`.
            NoCredentialsError, UnfitKagglePackageError: nothing can be asked for.
        """
        asked = f"page {number} of the dataset list"
        try:
            return self._calls.make(lambda: self._fetch(token, number, asked), asked)
        except BareAnswerError:
            # Behind the last page that Kaggle shows, pages are empty. The client makes the same of many a broken answer, so only one that
            # stays so is taken for the end.
            if number == 1:
                raise
            return Page([], "", self._clock.now())

    def _fetch(self, token: str, number: int, asked: str) -> Page:
        if self._client is None:
            self._client = self._connect()
        try:
            with _silent():
                answer = self._client.datasets.dataset_api_client.list_datasets(self._request(token, number))
            _check_form(json.loads(self._adapter.body), asked)
            rows = [_row(dataset) for dataset in answer.datasets]
        except requests.HTTPError as error:
            raise self._refusal(error, asked, token) from None
        except ValueError as error:  # JSON's too, which the HTTP library raises
            raise BrokenAnswerError(f"Kaggle's answer for {asked} is no page of a list: {_first(error)}.") from None
        except requests.RequestException as error:
            # Without the cause, and by its kind alone: an address or a header could stand in its message.
            raise self._no_answer(error, asked) from None
        except (TypeError, KeyError, AttributeError) as error:
            with contextlib.suppress(ValueError):
                _check_form(json.loads(self._adapter.body), asked)
            raise BrokenAnswerError(f"Kaggle's answer for {asked} has another form than its client reads: {_first(error)}.") from None
        following = answer.next_page_token or ""
        if not following and len(rows) >= PAGE_SIZE:
            following = _numbered(number + 1)  # an API without tokens: a full page is hardly the last one
        return Page(rows, following, self._clock.now())

    def _request(self, token: str, number: int) -> Any:  # noqa: ANN401 - the package has types of its own, and is optional
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest
        from kagglesdk.datasets.types.dataset_enums import DatasetSortBy

        request = ApiListDatasetsRequest()
        request.sort_by = DatasetSortBy[f"DATASET_SORT_BY_{self._order.upper()}"]
        request.page_size = PAGE_SIZE
        if token and token != _numbered(number):
            request.page_token = token
        else:
            request.page = number
        return request

    def _connect(self) -> Any:  # noqa: ANN401 - see `_request`
        try:
            if is_loopback(self._url):
                # A server of this machine needs no credentials, and gets none: they are Kaggle's.
                from kagglesdk.kaggle_client import KaggleClient
                from kagglesdk.kaggle_env import KaggleEnv

                client = KaggleClient(env=KaggleEnv.PROD, username="weir", password="none")
            else:
                from producers.sources.kaggle.download import authenticated

                client = authenticated().build_kaggle_client()
            http = client.http_client()
            if not hasattr(http, "_endpoint") or not hasattr(http, "_session"):
                raise UnfitKagglePackageError("this release of Kaggle's package does not let weir set its address: install kaggle 2.2.5.")
            http._endpoint = self._url
            client.__enter__()
            if is_loopback(self._url):
                # The client would prefer an access token that it finds by itself.
                http._session.auth = ("weir", "none")
                http._session.trust_env = False
            for scheme in ("https://", "http://"):
                http._session.mount(scheme, self._adapter)
            return client
        except ImportError as error:
            raise UnfitKagglePackageError("polling Kaggle needs Kaggle's own package: run `.venv/bin/pip install kaggle`.") from error

    def _refusal(self, error: requests.HTTPError, asked: str, token: str) -> ProducerError:
        status, headers = _status(error), error.response.headers if error.response is not None else {}
        if status in (401, 403):
            return RefusedError(
                f"Kaggle refuses the credentials for the dataset list (HTTP {status}). Make a new key on your account's page."
            )
        if status == 429:
            now = self._clock.now()
            span, until = _limit(headers.get("Retry-After", ""), now)
            return LimitError("Kaggle", span, until, "HTTP 429", asked)
        if status in (400, 404) and token:
            return StaleTokenError(f"Kaggle does not take the token of {asked} (HTTP {status}).")
        if 400 <= status < 500 and status not in (408, 425):
            return RefusedError(f"Kaggle refuses {asked} (HTTP {status}). Check WEIR_KAGGLE_URL and WEIR_KAGGLE_LIST_ORDER.")
        return UnavailableError(f"Kaggle answers HTTP {status} for {asked}. The next poll goes on at this page.")

    def _no_answer(self, error: requests.RequestException, asked: str) -> ProducerError:
        proxy = proxy_of(self._url)
        if proxy and isinstance(error, requests.exceptions.ProxyError):
            return NotReachedError(f"The proxy {proxy} cannot be used for {asked}. Check {proxy.variable}, or add the host to no_proxy.")
        if isinstance(error, requests.Timeout):
            kind = "no answer in time"
        elif isinstance(error, requests.exceptions.ChunkedEncodingError):
            kind = "the answer was cut off"
        else:
            kind = "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
        return UnavailableError(f"Kaggle did not answer for {asked}: {kind}. The next poll goes on at this page.")


class _Bounded(HTTPAdapter):
    """Sends a request with timeouts, reads the whole answer within a limit, and refuses one that is not the API's.

    Attributes:
        body: of the last answer.
    """

    def __init__(self, api: Api, read_seconds: float) -> None:
        super().__init__()
        self.body = b""
        self._api, self._read_seconds = api, read_seconds

    def send(  # type: ignore[override]  # the arguments as the session gives them
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        **others: Any,  # noqa: ANN401
    ) -> requests.Response:
        answer = super().send(request, stream=True, timeout=(CONNECT_SECONDS, self._read_seconds), **others)
        # The timeout is that between two pieces of the body, so a slow trickle would never time out.
        deadline = time.monotonic() + WHOLE_ANSWER_SECONDS
        body = bytearray()
        for piece in answer.iter_content(65_536):
            body += piece
            if time.monotonic() > deadline:
                raise requests.ReadTimeout("the answer did not end in time")
        self.body = answer._content = bytes(body)  # as `Response.content` does it, which the client asks for
        proxy = proxy_of(self._api.url)
        if what := intercepted.foreign_answer(answer.status_code, answer.headers, bytes(body), proxy):
            asked = "the dataset list"
            raise intercepted.intercepted(answer.status_code, what, asked, self._api, proxy) or NotReachedError(
                f"{intercepted.sentence(what, asked, self._api, proxy)} {intercepted.next_step(answer.status_code, self._api, proxy)}"
            )
        return answer


def lacking(settings: Settings) -> str:
    """Return why the list cannot be polled, and what to do; empty when it can. Looks for credentials without reading or trying them."""
    if find_spec("kagglesdk") is None:
        return "the dataset list is not polled: Kaggle's own package is missing (`.venv/bin/pip install kaggle`)"
    if is_loopback(settings.kaggle_url) or has_credentials(os.environ, Path.home()):
        return ""
    return (
        "the dataset list is not polled: no credentials for Kaggle. Set KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json from your "
        "account's settings page into ~/.kaggle, then run the same command again"
    )


def has_credentials(environment: Mapping[str, str], home: Path) -> bool:
    """Return whether Kaggle's client would find credentials: in its variables, or in one of its files."""
    if environment.get("KAGGLE_API_TOKEN") or (environment.get("KAGGLE_USERNAME") and environment.get("KAGGLE_KEY")):
        return True
    folders = [home / ".kaggle", home / ".config" / "kaggle"]
    if named := environment.get("KAGGLE_CONFIG_DIR"):
        folders.insert(0, Path(named))
    names = ("kaggle.json", "access_token", "access_token.txt", "credentials.json")
    return any((folder / name).is_file() for folder in folders for name in names)


def _check_form(answer: object, asked: str) -> None:
    """Check that an answer is a page. Of what is none, the client makes one without rows, which would be taken for the end of the list.

    Raises:
        BareAnswerError: an object that says nothing.
        ValueError: anything else.
    """
    if isinstance(answer, dict) and answer.keys() <= {"datasets", "nextPageToken"} and answer.get("datasets") is None:
        raise BareAnswerError(f"Kaggle's answer for {asked} has no list of datasets.")
    rows = answer.get("datasets") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it has no list of datasets")


def _row(dataset: Any) -> dict[str, Value]:  # noqa: ANN401 - see `DatasetList._request`
    return {
        "ref": dataset.ref,
        "title": dataset.title,
        "subtitle": dataset.subtitle or None,
        "url": dataset.url or None,
        "listed_id": dataset.id or None,
        "license_name": dataset.license_name or None,
        "updated_ts": _utc(dataset.last_updated),
    }


def _utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    aware = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def _numbered(number: int) -> str:
    """Return what stands for a token where the API gives none, but pages have numbers."""
    return f"page:{number}"


def _status(error: requests.HTTPError) -> int:
    """Return the status of an error, which may stand in the body of an answer with status 200."""
    if error.response is None:
        return 0
    if error.response.status_code >= 400:
        return error.response.status_code
    return int(error.response.json().get("code", 0))


def _limit(retry_after: str, now: datetime) -> tuple[LimitSpan, datetime]:
    """Return which limit is used up, and until when, from the header Retry-After: seconds or a date; without one, the minute's."""
    until = limit_boundary("minute", now)
    with contextlib.suppress(ValueError, OverflowError):
        until = now + timedelta(seconds=float(retry_after)) if retry_after.strip().isdigit() else _utc_date(retry_after)
    wait = until - now
    span: LimitSpan = "minute" if wait <= timedelta(minutes=2) else "hour" if wait <= timedelta(hours=1) else "day"
    return span, until


def _utc_date(text: str) -> datetime:
    at = parsedate_to_datetime(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}" if str(error) else type(error).__name__


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
