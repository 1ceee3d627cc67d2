"""How did the newest backfill of each domain go? Its chunks by state, from `lh.ops.backfills`."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from pyiceberg.exceptions import NoSuchTableError

from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables, open_catalog

TABLE = "ops.backfills"


def newest_backfills(settings: Settings) -> Mapping[str, Mapping[str, int]]:
    """Return by domain how many chunks of its newest backfill are in each state.

    Raises:
        UnsupportedCatalog, UnreadableCatalog: the catalog cannot be read without Spark, or not now.
    """
    try:
        with closing(open_catalog(settings)) as catalog:
            rows = catalog.load_table(TABLE).scan(selected_fields=("backfill_id", "domain", "state")).to_arrow().to_pylist()
    except (NoTables, NoSuchTableError):
        return {}
    newest: dict[str, str] = {}
    for row in rows:
        newest[row["domain"]] = max(row["backfill_id"], newest.get(row["domain"], ""))
    # A state without a chunk is 0 rather than missing, so that an alert ends.
    found = {domain: Counter(dict.fromkeys(("planned", "done", "failed"), 0)) for domain in newest}
    for row in rows:
        if row["backfill_id"] == newest[row["domain"]]:
            found[row["domain"]][row["state"]] += 1
    return found
