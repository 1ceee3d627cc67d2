"""Of which domains has anything arrived? A home has the tables of every domain that is registered, and messages of those that it uses."""

from collections.abc import Sequence
from contextlib import closing

import structlog
from pyiceberg.catalog import Catalog

from lakehouse.domain import Domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import open_catalog

log = structlog.get_logger("weir.batch")


def filled_domains(settings: Settings, domains: Sequence[Domain]) -> list[Domain]:
    """Leave out domains without a row in bronze; return all of them where none has any, since then that is what the caller must report.

    Raises:
        NoTables: nothing has been written yet.
        UnsupportedCatalog: the catalog can be read through Spark only.
    """
    with closing(open_catalog(settings)) as catalog:
        filled = [domain for domain in domains if any(_has_rows(catalog, source.bronze.name) for source in domain.sources)]
    if not filled:
        return list(domains)
    for domain in domains:
        if domain not in filled:
            log.info("left out: nothing has arrived yet", domain=domain.name)
    return filled


def _has_rows(catalog: Catalog, name: str) -> bool:
    path = tuple(name.split(".")[1:])
    return catalog.table_exists(path) and catalog.load_table(path).current_snapshot() is not None
