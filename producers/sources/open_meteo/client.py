"""How are hours fetched from Open-Meteo, and what happens when it refuses a call?

The API limits calls by minute, hour and day, but names the limit only in the text of a 429; there is no Retry-After. `producers/calls.py`
waits for limits and retries calls; a refusal (400, 401) is final. An answer of a proxy or a log-in page does not come from the API and does
not count against its limits. A fault that remains after the retries is an error, and the cursor of a place without hours does not advance.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from urllib.parse import urlsplit

import requests
import structlog

from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.domains.air_quality.locations import Location
from lakehouse.errors import ProducerError
from lakehouse.machine.proxies import Proxy, proxies_argument, proxy_of
from lakehouse.settings import Settings
from producers import intercepted
from producers.budget import Budget, LimitSpan, limit_boundary
from producers.call_errors import BrokenAnswerError, LimitError, NotReachedError, RefusedError, UnavailableError
from producers.calls import ATTEMPTS, Calls
from producers.clock import Clock
from producers.intercepted import Api
from producers.sources.open_meteo.answers import PlaceHours, check_hours, check_places, decode, elements_of
from producers.sources.open_meteo.limits import call_weight
from producers.sources.open_meteo.splitting import Days, split_days, split_places

SOURCE = "open-meteo"
MODEL_DOMAIN = "cams_global"
CONNECT_SECONDS, READ_SECONDS, WHOLE_ANSWER_SECONDS = 5.0, 20.0, 120.0
# The API's clock is correct to the second; `retrieved_ts` and the limits' boundaries rely on this machine's.
CLOCK_OFF = timedelta(minutes=5)

log = structlog.get_logger()


class NoSuchPlaceError(RefusedError):
    """The API has no data at one of the requested places; the others can be requested without it."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP answer; `is_cut` when the body was cut off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A place whose hours could not be fetched, and why."""

    location: Location
    error: ProducerError


class OpenMeteo:
    """A client of the API. Not thread-safe; close it, or use it in a `with` block."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        api_key: str | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
        read_seconds: float = READ_SECONDS,
        budget: Budget | None = None,
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/air-quality"
        self._api = Api("Open-Meteo", self._url, "WEIR_OPEN_METEO_URL")
        self._host = urlsplit(url).netloc
        self._clock, self._api_key, self._read_seconds, self._budget = clock, api_key, read_seconds, budget
        self._calls = Calls(SOURCE, self._api.name, clock, is_stopping, budget)
        self._session = requests.Session()
        self._is_clock_warned = False

    def __enter__(self) -> "OpenMeteo":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def split(self, places: Sequence[Location], days: Days) -> list[list[Location]]:
        """Split a list of places into requests over these days, in order."""
        return split_places(places, days, self._budget.most_at_once if self._budget else math.inf)

    def poll(self, places: Sequence[Location], since: date, until: date) -> Iterator[PlaceHours | Failure]:
        """Fetch UTC days, both included, request by request in order of time.

        A place that failed is left out of later requests, so its hours have no gap.

        Yields:
            Per request and place either its hours or its failure; see `fetch_each`.

        Raises:
            RefusedError, LimitError, InterceptedError: these concern all places; nothing more can be fetched now.
        """
        for _, fetch in self.requests(places, since, until):
            yield from fetch()

    def requests(
        self, places: Sequence[Location], since: date, until: date
    ) -> Iterator[tuple[Days, Callable[[], Iterator[PlaceHours | Failure]]]]:
        """Split the same into requests. Make each before taking the next, which leaves out the places that failed.

        Yields:
            The days of a request, and the function that makes it; see `fetch_each`.
        """
        failed: set[str] = set()

        def fetch(group: Sequence[Location], days: Days) -> Iterator[PlaceHours | Failure]:
            for one in self.fetch_each(group, days):
                if isinstance(one, Failure):
                    failed.add(one.location.location_key)
                yield one

        for days in split_days(since, until, self._clock.now().date()):
            active = [place for place in places if place.location_key not in failed]
            for group in self.split(active, days):
                yield days, partial(fetch, group, days)

    def fetch_each(self, places: Sequence[Location], days: Days) -> Iterator[PlaceHours | Failure]:
        """Request several places together and, if that fails, one by one, so that one place does not cost the others their hours.

        Raises:
            RefusedError, LimitError, InterceptedError: as for `poll`.
        """
        try:
            together = self.fetch(places, days)
        except (BrokenAnswerError, UnavailableError, NoSuchPlaceError) as error:
            if len(places) == 1:
                yield Failure(places[0], error)
                return
            log.warning("requesting places one by one", source=SOURCE, places=len(places), reason=str(error))
        else:
            yield from together
            return
        outages = 0
        for index, place in enumerate(places):
            try:
                # One attempt each, since the common request was retried; else an outage would cost the retries' time for each place.
                alone = self.fetch([place], days, attempts=1)
            except (BrokenAnswerError, UnavailableError, NoSuchPlaceError) as error:
                yield Failure(place, error)
                outages = outages + 1 if isinstance(error, UnavailableError) else 0
                if outages == 2:
                    not_asked = UnavailableError(f"not requested after two failures in a row: {error}")
                    yield from (Failure(rest, not_asked) for rest in places[index + 1 :])
                    return
            else:
                outages = 0
                yield from alone

    def fetch(self, places: Sequence[Location], days: Days, attempts: int = ATTEMPTS) -> list[PlaceHours]:
        """Make one request, with the retries and waits of `Calls.make`.

        Returns:
            One per place, in the order of the request, with the kept days only.

        Raises:
            RefusedError: the API refused; NoSuchPlaceError if because of one of the places.
            LimitError: the limit of the day is used up, or another limit still is after waiting for it.
            InterceptedError: a proxy or a log-in page answered instead of the API.
            BadProxyError: no request can be made through the proxy.
            TooHeavyError, StateFileError: see `Budget.take`.
            UnavailableError, BrokenAnswerError: the last attempt failed too.
        """
        keys = ", ".join(place.location_key for place in places)
        asked = f"{keys} from {days.asked_first} to {days.asked_last} at {self._host}"
        # The proxy is looked up before weight is taken from the budget, so an unusable proxy costs no calls.
        proxy, weight = proxy_of(self._url), call_weight(len(places), len(VARIABLES), days.asked)
        return self._calls.make(partial(self._fetch_once, places, days, asked, proxy), asked, weight, attempts)

    def _fetch_once(self, places: Sequence[Location], days: Days, asked: str, proxy: Proxy | None) -> list[PlaceHours]:
        answer = self._get(self._query(places, days), asked, proxy)
        retrieved_ts = self._clock.now()
        if what := intercepted.foreign_answer(answer.status, answer.headers, answer.body, proxy):
            raise self._not_reached(answer.status, what, asked, proxy)
        if answer.is_cut:
            raise UnavailableError(f"Open-Meteo did not answer for {asked}: the answer was cut off. Run it again later.")
        if answer.status != 200:
            raise _error_of(answer.status, answer.body, asked, retrieved_ts)
        self._compare_clocks(answer.headers, retrieved_ts)
        try:
            elements = elements_of(_parse(answer.body))
            check_places(elements, places)
            decoded = [decode(element, place, retrieved_ts, MODEL_DOMAIN) for element, place in zip(elements, places, strict=True)]
            for one in decoded:
                check_hours(one.hours, days.asked_first, days.asked_last)
        except BrokenAnswerError as error:
            raise BrokenAnswerError(
                f"Open-Meteo's answer for {asked} is broken: {error}. The cursor was not advanced; run it again."
            ) from error
        return [one.kept(days.first, days.last) for one in decoded]

    def _query(self, places: Sequence[Location], days: Days) -> dict[str, str]:
        query = {
            "latitude": ",".join(_degrees(place.latitude) for place in places),
            "longitude": ",".join(_degrees(place.longitude) for place in places),
            "hourly": ",".join(VARIABLES),
            "domains": MODEL_DOMAIN,
            "timeformat": "unixtime",
            "timezone": "GMT",
            "start_date": days.asked_first.isoformat(),
            "end_date": days.asked_last.isoformat(),
        }
        return query | ({"apikey": self._api_key} if self._api_key else {})

    def _get(self, query: Mapping[str, str], asked: str, proxy: Proxy | None) -> _Answer:
        # The timeout of requests is the time between two pieces of the body, so a slow trickle would never time out.
        deadline = time.monotonic() + WHOLE_ANSWER_SECONDS
        body, answer = bytearray(), None
        try:
            with self._session.get(
                self._url,
                params=query,
                timeout=(CONNECT_SECONDS, self._read_seconds),
                stream=True,
                proxies=proxies_argument(proxy),
                allow_redirects=False,  # the API does not redirect; another server's redirect would send the API key elsewhere
            ) as answer:
                for piece in answer.iter_content(65_536):
                    body += piece
                    if time.monotonic() > deadline:
                        raise UnavailableError(
                            f"Open-Meteo did not finish its answer for {asked} within {WHOLE_ANSWER_SECONDS:g} s. Run it again later."
                        )
                return _Answer(answer.status_code, answer.headers, bytes(body), is_cut=False)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            if answer is None:
                raise self._no_answer(error, asked, proxy) from None
            return _Answer(answer.status_code, answer.headers, bytes(body), is_cut=True)
        except (requests.RequestException, ValueError) as error:  # ValueError: an invalid host name
            # Without the cause, since requests puts the URL, and with it the API key, into its messages.
            raise self._no_answer(error, asked, proxy) from None

    def _no_answer(self, error: Exception, asked: str, proxy: Proxy | None) -> ProducerError:
        """Return the error for a request without answer; it names a proxy that is unreachable or opens no tunnel."""
        if proxy and isinstance(error, requests.exceptions.ProxyError):
            if status := intercepted.tunnel_status(str(error)):
                return self._not_reached(status, f"status {status}, no connection to {self._host}", asked, proxy)
            return NotReachedError(
                f"The proxy {proxy} cannot be reached; requested: {asked}. Check {proxy.variable}, or add the host to no_proxy."
            )
        way = f" through the proxy {proxy}" if proxy else ""
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            step = "Log in to the network if it asks for that; if a proxy decrypts TLS, set REQUESTS_CA_BUNDLE to its certificate's file"
            return UnavailableError(
                f"A server without a trusted certificate answered instead of Open-Meteo; requested: {asked}{way}. {step}."
            )
        return UnavailableError(f"Open-Meteo did not answer for {asked}{way}: {_kind(error)}. Run it again later.")

    def _not_reached(self, status: int, what: str, asked: str, proxy: Proxy | None) -> ProducerError:
        sentence = intercepted.sentence(what, asked, self._api, proxy)
        return intercepted.intercepted(status, what, asked, self._api, proxy) or NotReachedError(
            f"{sentence} {intercepted.next_step(status, self._api, proxy)}"
        )

    def _compare_clocks(self, headers: Mapping[str, str], now: datetime) -> None:
        """Warn once if the API's clock and this machine's differ by more than `CLOCK_OFF`."""
        there = answered_at(headers)
        if there is not None and abs(now - there) > CLOCK_OFF and not self._is_clock_warned:
            self._is_clock_warned = True
            log.warning(
                "this machine's clock differs from the API's: set it, or past hours and forecasts may be mixed up",
                source=SOURCE,
                here=now.isoformat(timespec="seconds"),
                there=there.isoformat(timespec="seconds"),
            )


def open_client(settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None) -> OpenMeteo:
    """Open a client for the API that the settings name, with its key if they have one."""
    key = settings.open_meteo_api_key.get_secret_value() if settings.open_meteo_api_key else None
    return OpenMeteo(settings.open_meteo_url, clock, key, is_stopping, budget=budget)


def answered_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when the server answered by its own clock; None where the header `Date` is missing or not a date."""
    try:
        there = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return there if there.tzinfo else there.replace(tzinfo=UTC)


def _error_of(status: int, body: bytes, asked: str, now: datetime) -> ProducerError:
    """Return the error for a status and its text; the API names the limit that was exceeded only in the text."""
    reason = _reason(body)
    if status == 429:
        for word, span in _LIMITS.items():
            if word in reason.lower():
                return LimitError("Open-Meteo", span, limit_boundary(span, now), reason, asked)
        return UnavailableError(f"Open-Meteo is overloaded and rejected {asked} (429): {reason}. Run it again later.")
    if status == 400 and "for this location" in reason:
        return NoSuchPlaceError(f"Open-Meteo refused {asked} (400): {reason}")
    if 400 <= status < 500 and status not in (408, 425):
        return RefusedError(f"Open-Meteo refused {asked} ({status}): {reason}")
    return UnavailableError(f"Open-Meteo failed for {asked} ({status}): {reason}. Run it again later.")


_LIMITS: dict[str, LimitSpan] = {"minutely": "minute", "hourly": "hour", "daily": "day"}


def _reason(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("reason"), str):
        return str(answer["reason"])
    return body[:200].decode(errors="replace").strip() or "no reason given"


def _parse(body: bytes) -> object:
    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except ValueError as error:
        raise BrokenAnswerError(f"{len(body)} bytes that are not JSON ({error})") from error


def _kind(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)):
        return "the answer was cut off"
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS handshake failed"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__


def _degrees(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
