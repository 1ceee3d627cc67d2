"""What would Kaggle's dataset list answer? A local HTTP server that implements `ListDatasets` of Kaggle's API with recorded lists.

It is for demos, benchmarks and tests, and listens on the loopback only. Kaggle's own client talks to it.

    python -m deploy.local.services.kaggle_list_server SNAPSHOTS [--port N] [--rows 50] [--per-minute N]

SNAPSHOTS is a .jsonl.gz of rows with snapshot_at, ref, title and url, in the order of the list. The server answers with one snapshot
until `POST /_next` goes on to the following one; after the last it stays.

Recorded are the refs, titles, addresses and their order. **Not real**: the tokens of pages (the offset in the list, so that the list moves
below a poll), the size of pages, the limit by the minute with its 429 and Retry-After, and every error. Other fields
of a dataset are left out, as are ids: the client then has its default for them.
"""

import argparse
import gzip
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATH = "/v1/datasets.DatasetApiService/ListDatasets"
MOST_ROWS = 200
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """One faulty answer.

    Attributes:
        status: of the answer.
        body: sent instead of the correct one; None keeps the correct one.
        headers: added to the usual headers or replacing them.
        delay_seconds: the wait before the answer.
        keep_bytes: truncates the body to this many bytes, but not Content-Length.
        drop: closes the connection without an answer.
        before: called before the answer is made, to change the list below a poll.
    """

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    keep_bytes: int | None = None
    drop: bool = False
    before: Callable[[], None] | None = None


class KaggleListServer:
    """The server; use it in a `with` block.

    Args:
        rows: the list that it answers with first.
        following: the lists that `next` goes on to.
        page_rows: the most rows of a page, whatever is asked for.
        per_minute: calls that it answers in a minute before 429; 0 for no limit.
        port: 0 for a free one.

    Attributes:
        rows: the current list; a test may replace it.
        faults: answers to come, one for each request; None for a correct one.
        asked: what each request asked for.
        credentials: the header Authorization of each request.
    """

    def __init__(
        self, rows: Sequence[Row], following: Sequence[Sequence[Row]] = (), page_rows: int = 50, per_minute: int = 0, port: int = 0
    ) -> None:
        self.rows = list(rows)
        self.faults: deque[Fault | None] = deque()
        self.asked: list[dict[str, Any]] = []
        self.credentials: list[str] = []
        self._following = deque(following)
        self._page_rows, self._per_minute = page_rows, per_minute
        self._calls: deque[float] = deque()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next(self) -> None:
        """Go on to the following list; stay where there is none."""
        with self._lock:
            if self._following:
                self.rows = list(self._following.popleft())

    def answer(self, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Return status, body and headers for a request, as the API would."""
        with self._lock:
            if wait := self._wait():
                return 429, {"code": 429, "message": "Too many requests"}, {"Retry-After": str(wait)}
            size = min(int(asked.get("pageSize") or 20), self._page_rows, MOST_ROWS)
            if token := str(asked.get("pageToken") or ""):
                start = _offset_of(token)
                if start is None:
                    return 400, {"code": 400, "message": "Invalid page token"}, {}
            else:
                start = (max(int(asked.get("page") or 1), 1) - 1) * size
            page = self.rows[start : start + size]
            following = _token_of(start + size) if start + size < len(self.rows) else ""
            listed = [{name: row[name] for name in row if name != "snapshot_at"} for row in page]
            return 200, {"datasets": listed, "nextPageToken": following}, {}

    def _wait(self) -> int:
        """Count a call; return the seconds until the next one is answered, 0 where this one is."""
        now = time.monotonic()
        while self._calls and now - self._calls[0] >= 60:
            self._calls.popleft()
        if self._per_minute and len(self._calls) >= self._per_minute:
            return max(1, round(60 - (now - self._calls[0])))
        self._calls.append(now)
        return 0


def read_snapshots(path: Path) -> list[list[Row]]:
    """Read recorded lists in the order of their times."""
    found: dict[str, list[Row]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            found.setdefault(str(row["snapshot_at"]), []).append(row)
    return [rows for _, rows in sorted(found.items())]


def _handler(owner: KaggleListServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/_next":
                owner.next()
                self._send(200, b"{}", {}, None)
                return
            if self.path != PATH:
                self._send(404, json.dumps({"code": 404, "message": f"no {self.path}"}).encode(), {}, None)
                return
            asked = json.loads(content)
            owner.asked.append(asked)
            owner.credentials.append(self.headers.get("Authorization", ""))
            fault = (owner.faults.popleft() if owner.faults else None) or Fault()
            time.sleep(fault.delay_seconds)
            if fault.before is not None:
                fault.before()
            if fault.drop:
                self.close_connection = True
                return
            status, answer, headers = owner.answer(asked)
            if fault.status != 200:
                status, answer = fault.status, {"code": fault.status, "message": "as the test wants it"}
            body = json.dumps(answer).encode() if fault.body is None else fault.body
            self._send(status, body, {**headers, **fault.headers}, fault.keep_bytes)

        def _send(self, status: int, body: bytes, headers: Mapping[str, str], keep_bytes: int | None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if keep_bytes is None else body[:keep_bytes])
            if keep_bytes is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of each request."""

    return Handler


def _token_of(offset: int) -> str:
    return f"{offset}-{hashlib.sha256(f'page {offset}'.encode()).hexdigest()[:12]}"


def _offset_of(token: str) -> int | None:
    offset = token.partition("-")[0]
    return int(offset) if offset.isdigit() and token == _token_of(int(offset)) else None


def main(arguments: list[str] | None = None) -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.services.kaggle_list_server", description="Answer with recorded lists.")
    parser.add_argument("snapshots", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rows", type=int, default=50, help="rows of a page")
    parser.add_argument("--per-minute", type=int, default=0, help="calls that are answered in a minute; 0 for no limit")
    asked = parser.parse_args(arguments)
    first, *following = read_snapshots(asked.snapshots)
    with KaggleListServer(first, following, asked.rows, asked.per_minute, asked.port) as server:
        print(f"WEIR_KAGGLE_URL={server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
