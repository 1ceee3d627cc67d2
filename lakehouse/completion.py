"""What could the word be that is being typed? For the shell: fast, without Spark, and silent where something is wrong.

Standard library and settings only: the shell waits for the answer at every press of the key.
"""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing

from lakehouse.domain_names import DOMAINS
from lakehouse.errors import WeirError
from lakehouse.settings import Settings, load_settings
from lakehouse.storage.paths import sqlite_file


def domains(incomplete: str) -> list[str]:
    """Give the domains whose names begin so."""
    return beginning(incomplete, DOMAINS)


def tables(incomplete: str) -> list[str]:
    """Give the tables whose names begin so, with `lh.` where it was typed; none where the catalog is not a file of this machine."""
    try:
        settings = load_settings(dict(os.environ))
    except WeirError:
        return []
    prefix = "lh." if incomplete.startswith("lh.") else ""
    return beginning(incomplete, [prefix + name for name in _names(settings)])


def beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    """Give the words that begin so, in order."""
    return sorted(word for word in words if word.startswith(incomplete))


def _names(settings: Settings) -> list[str]:
    file = sqlite_file(settings.catalog_uri)
    if file is None or not file.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)) as catalog:
            return [f"{layer}.{name}" for layer, name in catalog.execute("SELECT table_namespace, table_name FROM iceberg_tables")]
    except sqlite3.Error:
        return []
