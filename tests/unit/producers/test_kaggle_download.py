"""Is Meta Kaggle downloaded by Kaggle's own package as it should be? Against a server on the loopback; no credentials ever show."""

import io
import json
import logging
import subprocess
import sys
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lakehouse.settings import Settings
from producers.call_errors import RefusedError, UnavailableError
from producers.dumps.errors import UnsafeArchiveError
from producers.sources.kaggle.download import NoCredentialsError, download

ROOT = Path(__file__).parents[3]
NAMES = ["Tags.csv", "Users.csv", "Datasets.csv"]
SECRET = "0123456789abcdef-secret"


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


@dataclass(slots=True)
class Api:
    """What Kaggle answers: files by name, as they come, and the status of every answer."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"Users.csv": b"Id\n1\n", "Tags.csv": b"Id\n2\n", "Forums.csv": b"Id\n3\n"})
    zipped: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    seen: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            api.seen.append((self.path.rpartition("/")[2], self.headers.get("Authorization", "")))
            if api.status != 200:
                self._answer(api.status, json.dumps({"code": api.status, "message": f"refused {SECRET}"}).encode(), "application/json")
            elif self.path.endswith("ListDatasetFiles"):
                dates = {"Users.csv": "2025-08-01T06:30:00Z", "Tags.csv": "2025-07-30T00:00:00Z", "Forums.csv": "2025-09-01T00:00:00Z"}
                listed = [{"name": name, "creationDate": dates[name], "totalBytes": len(api.files[name])} for name in api.files]
                # Two pages: one file on the first, if none was asked for.
                page = listed[1:] if asked.get("pageToken") else listed[:1]
                answer = {"datasetFiles": page, "nextPageToken": "" if asked.get("pageToken") else "next"}
                self._answer(200, json.dumps(answer).encode(), "application/json")
            else:
                name = asked["fileName"]
                self.send_response(302)
                self.send_header("Location", f"{api.url}/storage/{name}{'.zip' if name in api.zipped else ''}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            self._answer(200, api.zipped[name.removesuffix(".zip")] if name.endswith(".zip") else api.files[name], "text/csv")

        def _answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    for name, value in {"KAGGLE_USERNAME": "ann", "KAGGLE_KEY": SECRET, "KAGGLE_CONFIG_DIR": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk import kaggle_env

    monkeypatch.setattr(KaggleApi, "config", str(tmp_path / "config" / "kaggle.json"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, api.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_wanted_files_come_with_the_time_of_the_newest_and_go_afterwards(
    api: Api, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api.zipped["Users.csv"] = zipped("Users.csv", b"Id\n77\n")
    with download(settings, tmp_path, NAMES) as fetched:
        assert {file.name: file.read_bytes() for file in fetched.folder.iterdir()} == {"Users.csv": b"Id\n77\n", "Tags.csv": b"Id\n2\n"}
        assert fetched.made == datetime(2025, 8, 1, 6, 30, tzinfo=UTC)
    assert not fetched.folder.exists()
    assert {name for name, _ in api.seen} == {"ListDatasetFiles", "DownloadDataset"}
    assert {said for _, said in api.seen} == {f"Basic {b64encode(f'ann:{SECRET}'.encode()).decode()}"}
    shown = capsys.readouterr()
    said = shown.out + shown.err + caplog.text
    assert "Dataset URL" not in said, "stdout is the report's"
    assert SECRET not in said
    assert b64encode(f"ann:{SECRET}".encode()).decode() not in said


def test_zip_that_leaves_its_folder_is_refused(api: Api, settings: Settings, tmp_path: Path) -> None:
    api.zipped["Users.csv"] = zipped("../../Users.csv", b"Id\n")
    with pytest.raises(UnsafeArchiveError), download(settings, tmp_path, NAMES):
        pass
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("download.")] == []


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, RefusedError, "Kaggle refuses the credentials for kaggle/meta-kaggle (HTTP 401)"),
        (403, RefusedError, "Kaggle refuses the credentials"),
        (404, RefusedError, "Kaggle has no dataset kaggle/meta-kaggle (HTTP 404). Check WEIR_KAGGLE_DATASET."),
        (503, UnavailableError, "Kaggle answers HTTP 503 for kaggle/meta-kaggle. Run the same command again later."),
    ],
)
def test_refusals_are_told_apart_and_show_no_secret(
    status: int, kind: type[Exception], said: str, api: Api, settings: Settings, tmp_path: Path
) -> None:
    api.status = status
    with pytest.raises(kind) as raised, download(settings, tmp_path, NAMES):
        pass
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


def test_server_that_is_not_there_is_worth_trying_again(
    api: Api, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="Kaggle does not answer"), download(settings, tmp_path, NAMES):
        pass


def test_without_credentials_one_sentence_says_what_to_set(
    api: Api, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NoCredentialsError, match="set KAGGLE_USERNAME and KAGGLE_KEY"), download(settings, tmp_path, NAMES):
        pass
    assert capsys.readouterr().out == ""
    assert api.seen == []


def test_package_is_loaded_for_a_download_only() -> None:
    code = "import sys; from producers.sources.registry import load_dumps; load_dumps('kaggle'); print('kaggle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
