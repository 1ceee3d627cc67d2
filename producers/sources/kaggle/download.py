"""How is Meta Kaggle downloaded? By Kaggle's own package, an optional one, with the credentials that it finds: weir never sees them.

The package prints on stdout, and ends the program where it has no credentials; both is kept from the command.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import structlog

from lakehouse.errors import Fatal, ProducerError
from lakehouse.settings import Settings
from producers.call_errors import RefusedError, UnavailableError
from producers.dumps.archive import Limits, open_files
from producers.dumps.description import Fetched

_MOST_FILES = 200

log = structlog.get_logger()


class NoKagglePackageError(ProducerError, Fatal):
    """Kaggle's package is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "--download needs Kaggle's own package: run `.venv/bin/pip install kaggle`, or download by hand and give --dump PATH."
        )


class NoCredentialsError(ProducerError, Fatal):
    """Kaggle's package finds no credentials."""

    def __init__(self) -> None:
        super().__init__(
            "no credentials for Kaggle: set KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json from your account's settings page into "
            "~/.kaggle; or download by hand and give --dump PATH."
        )


@contextmanager
def download(settings: Settings, folder: Path, names: Sequence[str]) -> Iterator[Fetched]:
    """Download the named files of the dataset; they are removed when the block ends.

    Raises:
        NoKagglePackageError, NoCredentialsError: nothing can be asked for.
        RefusedError, UnavailableError: Kaggle refuses, or does not answer.
        UnsafeArchiveError: a file came as a zip that must not be extracted.
    """
    api = authenticated()
    with TemporaryDirectory(dir=folder, prefix="download.") as into, _errors(settings.kaggle_dataset):
        there = {file.name: file for file in _files(api, settings.kaggle_dataset)}
        found = [name for name in names if name in there]
        for name in found:
            log.info("downloading", dataset=settings.kaggle_dataset, file=name, bytes=there[name].total_bytes)
            with _silent():
                api.dataset_download_file(settings.kaggle_dataset, name, path=into, force=True, quiet=True)
            _unpacked(Path(into), name, settings)
        made = max((_utc(there[name].creation_date) for name in found), default=datetime.fromtimestamp(0, UTC))
        yield Fetched(Path(into), made)


def authenticated() -> Any:  # noqa: ANN401 - the package is optional, so its types are not known here
    """Return Kaggle's client with the credentials that it finds.

    Raises:
        NoKagglePackageError, NoCredentialsError: there is none.
    """
    try:
        with _silent():
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
            return api
    except ImportError as error:
        raise NoKagglePackageError from error
    except (SystemExit, ValueError, OSError) as error:
        raise NoCredentialsError from error


def _files(api: Any, dataset: str) -> list[Any]:  # noqa: ANN401 - see `authenticated`
    found: list[Any] = []
    token = None
    while True:
        with _silent():
            answer = api.dataset_list_files(dataset, page_token=token, page_size=_MOST_FILES)
        if answer.error_message:
            raise RefusedError(f"Kaggle refuses the list of files of {dataset}. Check WEIR_KAGGLE_DATASET.")
        found += answer.dataset_files
        token = answer.next_page_token
        if not token:
            return found


def _unpacked(folder: Path, name: str, settings: Settings) -> None:
    """Extract a file that came as a zip, as large ones do, with the same checks as a zip of the operator's."""
    packed = folder / f"{name}.zip"
    if not packed.exists():
        return
    limits = Limits(settings.dump_member_gib, settings.dump_total_gib, settings.dump_ratio)
    with open_files(packed, [name], folder, limits) as found:
        for file in found:
            file.path.replace(folder / name)
    packed.unlink()


@contextmanager
def _errors(dataset: str) -> Iterator[None]:
    # By status and kind alone: neither a header nor an address of the request may reach a message.
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise RefusedError(
                f"Kaggle refuses the credentials for {dataset} (HTTP {status}). Make a new key on your account's page."
            ) from None
        if status == 404:
            raise RefusedError(f"Kaggle has no dataset {dataset} (HTTP 404). Check WEIR_KAGGLE_DATASET.") from None
        raise UnavailableError(f"Kaggle answers HTTP {status} for {dataset}. Run the same command again later.") from None
    except requests.RequestException as error:
        raise UnavailableError(
            f"Kaggle does not answer ({type(error).__name__}). Check the network, and run the same command again."
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
