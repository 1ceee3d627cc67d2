"""How are a domain's tables read in a consistent state? At their snapshots between two `apply`, with the bronze rows that these contain."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.table import Table as Stored

from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.domain import Domain, Source
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locks.table_locks import table_lock
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from lakehouse.tables.catalog import ancestors, newest_mark_of, open_catalog
from lakehouse.tables.editions import check_edition, edition_of
from lakehouse.tables.notes import add_applied, applied_of
from lakehouse.tables.properties import OFFSET_RANGE_PROPERTY
from lakehouse.tables.schema import REJECTS, quote
from lakehouse.tables.stream_positions import HELD_BACK, read_held_back


class NoGold(LakehouseError, Fatal):
    """The domain's tables have no rows yet."""

    def __init__(self, domain: str) -> None:
        super().__init__(f"{domain} has no rows in silver and gold yet: `weir up` starts the stream that writes them.")


@dataclass(frozen=True, slots=True)
class Heads:
    """The tables of a domain at one moment; use it in a `with` block.

    Attributes:
        domain: the domain.
        tables: PyIceberg's object of each table, by its name with `lh.`.
        applied: the last offset of each partition that silver and gold contain. A partition that no snapshot mentions is left out and
            counts as applied completely.
    """

    domain: Domain
    tables: Mapping[str, Stored]
    applied: PartitionOffsets
    _opened: ExitStack

    @classmethod
    def look(cls, settings: Settings, domain: Domain) -> "Heads":
        """Load the tables between two `apply`, with the table lock held.

        Raises:
            NoTables, NoGold: nothing has been written yet.
            UnsupportedCatalog: the catalog can be read by Spark only.
        """
        with ExitStack() as opened:
            catalog: Catalog = open_catalog(settings)
            opened.callback(catalog.close)
            merged = [table.name for table in domain.merged]
            names = [*merged, *(table.name for table, _ in domain.dimensions)]
            with table_lock(settings, domain.name):
                tables = {name: catalog.load_table(_path(name)) for name in names if catalog.table_exists(_path(name))}
                rejects = [catalog.load_table(_path(REJECTS.name))] if catalog.table_exists(_path(REJECTS.name)) else []
            silver = [source.silver.name for source in domain.sources]
            if any(name not in tables for name in merged) or all(tables[name].current_snapshot() is None for name in silver):
                raise NoGold(domain.name)
            # Loaded after them, so that bronze has all their rows; its newer rows are not read.
            for source in domain.sources:
                tables[source.bronze.name] = catalog.load_table(_path(source.bronze.name))
            applied = _applied(domain, [*tables.values(), *rejects])
            for source in _held_back(settings, domain):
                applied = {**_not_applied(tables[source.bronze.name]), **applied}
            return cls(domain, tables, applied, opened.pop_all())

    def __enter__(self) -> "Heads":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def by_own_edition(self) -> "Heads":
        """Return the same with the domain by gold's own edition, which its tables have in their properties, whatever the settings are.

        Raises:
            OtherEdition: gold's tables are of several editions, or of one that this version can no longer compute.
        """
        domain = self.domain
        editions = {one.table.name: edition_of(domain, self.tables[one.table.name].properties) for one in domain.derived}
        own = next((edition for edition in editions.values() if edition), {})
        if not own or own == domain.edition or domain.by_edition is None:
            return self
        domain = domain.by_edition(own)
        check_edition(domain, lambda name: self.tables[name].properties)
        return replace(self, domain=domain)

    def snapshot_id(self, name: str) -> int:
        """Return the id of a table's snapshot; 0 for a table without one."""
        snapshot = self.tables[name].current_snapshot()
        return 0 if snapshot is None else snapshot.snapshot_id

    def row_count(self, name: str) -> int:
        """Return the number of rows of a table's snapshot, including those marked as deleted."""
        snapshot = self.tables[name].current_snapshot()
        return 0 if snapshot is None or snapshot.summary is None else int(snapshot.summary.additional_properties.get("total-records", 0))

    def rows(self, name: str, where: BooleanExpression = AlwaysTrue(), columns: Iterable[str] = ("*",)) -> pa.Table:  # noqa: B008 - a constant
        """Read rows of a table."""
        return self.tables[name].scan(where, selected_fields=tuple(columns)).to_arrow()

    def bronze_files(self, source: Source, columns: Iterable[str], only_applied: bool = True) -> Any:  # noqa: ANN401 - Arrow's
        """Return a scanner of a bronze table's rows, either those that are in silver or all, which reads the files of its snapshot."""
        table = self.tables[source.bronze.name]
        wanted = list(columns)
        types = schema_to_pyarrow(table.schema(), include_field_ids=False)
        # The column is missing in a home of an earlier version that has not been written since.
        present = {**{field.name: field for field in types}, "wire_version": pa.field("wire_version", pa.int32())}
        schema = pa.schema([_plain(present[name]) for name in wanted])
        io = table.io
        assert isinstance(io, PyArrowFileIO)
        paths = [task.file.file_path for task in table.scan().plan_files()]
        if not paths:
            return schema.empty_table()
        scheme, netloc, _ = io.parse_location(paths[0])
        files = ds.dataset(
            [io.parse_location(path)[2] for path in paths], schema, format="parquet", filesystem=io.fs_by_scheme(scheme, netloc)
        )
        return files.scanner(columns=wanted, filter=self._is_applied() if only_applied else None)

    def is_applied(self) -> str:
        """Return the same condition on bronze's rows as SQL for Spark."""
        beyond = [f"(topic = {quote(t)} AND partition = {p} AND kafka_offset > {last})" for (t, p), last in self.applied.items()]
        return f"topic IS NULL OR NOT ({' OR '.join(beyond) or 'false'})"

    def _is_applied(self) -> Any:  # noqa: ANN401 - Arrow's
        chosen = pc.scalar(True)
        for (topic, partition), last in self.applied.items():
            beyond = (pc.field("topic") == topic) & (pc.field("partition") == partition) & (pc.field("kafka_offset") > last)
            chosen = chosen & (pc.field("topic").is_null() | ~beyond)
        return chosen


def _plain(field: pa.Field) -> pa.Field:
    """Replace the large types of PyIceberg's schemas by those of the Parquet files."""
    kinds = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    return pa.field(field.name, kinds.get(field.type, field.type))


def _applied(domain: Domain, tables: Iterable[Stored]) -> dict[tuple[str, int], int]:
    """Find the last offset of each partition that an `apply` noted in a snapshot, or that maintenance noted from an expired one."""
    applied: dict[tuple[str, int], int] = {}
    for table in tables:
        for place, last in applied_of(table.properties).items():
            applied[place] = max(applied.get(place, -1), last)
        for snapshot in ancestors(table):
            ranges = snapshot.summary.additional_properties.get(OFFSET_RANGE_PROPERTY) if snapshot.summary else None
            for topic in domain.topics:
                add_applied(applied, ranges, topic)
    return applied


def _held_back(settings: Settings, domain: Domain) -> list[Source]:
    """Return the sources that the breaker holds back; of these, silver may lack rows that no snapshot mentions."""
    text = open_folder(settings.checkpoint(domain.refine_query)).text(HELD_BACK)
    return [domain.sources[number] for number in read_held_back(text) if number < len(domain.sources)]


def _not_applied(bronze: Stored) -> dict[tuple[str, int], int]:
    """Return -1 for each partition from which a bronze table has messages."""
    return {(topic, int(partition)): -1 for topic, held in newest_mark_of(bronze).items() for partition in held["next"]}


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.split(".")[1:])
