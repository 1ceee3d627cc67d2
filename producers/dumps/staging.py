"""How are the rows of a table read, judged and made unique before anything of it is sent? Into one Parquet file, which is kept if they are.

Beside the table's own columns a row has MISFITS, RULE (the rule that it breaks) and HASH (of all its values), by which two dumps compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from lakehouse.contract import Value
from lakehouse.judge_columns import ARRIVAL, Rule, verdict
from lakehouse.tables.schema import quote_name, quote_text
from producers.dumps.description import MISFITS, DumpSource, DumpTable
from producers.dumps.errors import BrokenCsvError
from producers.dumps.kept import Kept, metadata, parquet
from producers.dumps.wire import literal

RULE, HASH = "_rule", "_hash"


@dataclass(frozen=True, slots=True)
class Broken:
    """A line of a file that is no row: its file, its number from 1 on, what is wrong, and its text."""

    file: str
    line: int
    why: str
    text: str


@dataclass(slots=True)
class Staged:
    """The rows of a table that were read.

    Attributes:
        path: the file with them, unique by the table's identity.
        read: the rows that were read, before they were made unique, without broken lines.
        rows: those that are left.
        repeated: rows with the identity of another one: dropped where the table has no `repeats`.
        rules: by rule, how many of the rows that are left break it first.
        warnings: by rule that lets rows in, how many of the rows that break no other rule are unusual in this way.
        without_key: rows that do not name what they are about.
        broken: lines that are no rows.
    """

    path: Path
    read: int = 0
    rows: int = 0
    repeated: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    without_key: int = 0
    broken: list[Broken] = field(default_factory=list)


class Stage:
    """Reads tables into files.

    Args:
        database: an open DuckDB.
        source: of the tables.
        table: which one.
        rules: by which its rows are judged.
        made: when the dump was made.
        stamped: the time in its messages.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        source: DumpSource,
        table: DumpTable,
        rules: Sequence[Rule],
        made: datetime,
        stamped: datetime,
    ) -> None:
        self._database, self._table, self._rules = database, table, rules
        self._made, self._stamped = made, stamped
        self.values = source.values(table)
        # Hashes of one release of DuckDB, over the same columns in the same order, are compared; others are computed anew.
        self.hashed = f"{duckdb.__version__} {' '.join(self.values)}"

    @property
    def is_keyed(self) -> str:
        """SQL condition: a row names what it is about."""
        return _all_known([name for name in self._table.contract.key if name in self.values])

    def read(self, rows: str, same: Mapping[str, Value], path: Path) -> Staged:
        """Read the rows of a table into a file.

        Args:
            rows: SQL of the rows, see `Form.rows`.
            same: the fields that have one value in all rows of the dump.
            path: the file, which is made.

        Raises:
            BrokenCsvError: a file is not CSV from some line on.
        """
        staged = Staged(path)
        for name in ("reject_errors", "reject_scans"):
            self._database.execute(f"DROP TABLE IF EXISTS {name}")
        if self._table.repeats:
            rows = f"SELECT *, CAST(1 AS BIGINT) AS {quote_name(self._table.repeats)} FROM ({rows})"
        try:
            self._copy(self._judged(rows, same), path)
        except duckdb.InvalidInputException as error:
            raise BrokenCsvError(_sentence(error)) from error
        staged.broken = self._broken()
        (staged.read,) = self._one(f"SELECT count(*) FROM {parquet(path)}")
        if self._find_repeated(path, staged):
            self._make_unique(path, staged, same)
        (staged.rows, staged.without_key) = self._one(f"SELECT count(*), count(*) FILTER (NOT {self.is_keyed}) FROM {parquet(path)}")
        counted = self._database.execute(f"SELECT {RULE}, count(*) FROM {parquet(path)} WHERE {RULE} IS NOT NULL GROUP BY ALL").fetchall()
        staged.rules = {str(rule): int(count) for rule, count in sorted(counted, key=lambda one: (-int(one[1]), one[0]))}
        staged.warnings = self._warnings(path, same)
        return staged

    def hashes(self, kept: Kept) -> str:
        """Return the SQL of kept rows whose hashes compare with those of this stage, with columns that were added since as null."""
        if kept.hashed == self.hashed:
            return f"SELECT * FROM {parquet(kept.path)}"
        kinds = {name: self._table.contract.field(name).kind.duckdb for name in self.values} | {MISFITS: "VARCHAR", RULE: "VARCHAR"}
        columns = [
            f"{quote_name(name)}" if name in kept.columns else f"CAST(NULL AS {kind}) AS {quote_name(name)}" for name, kind in kinds.items()
        ]
        return f"SELECT *, {self._hash()} FROM (SELECT {', '.join(columns)} FROM {parquet(kept.path)})"

    def _hash(self) -> str:
        return f"hash({', '.join(quote_name(name) for name in (*self.values, MISFITS))}) AS {HASH}"

    def _judged(self, rows: str, same: Mapping[str, Value]) -> str:
        """Return the SQL of rows with their hash and the rule that they break."""
        values = ", ".join(quote_name(name) for name in self.values)
        rule = verdict(self._rules, f"{MISFITS} IS NOT NULL")
        return f"SELECT {values}, {MISFITS}, {rule} AS {RULE}, {self._hash()} FROM ({self._whole(rows, same)})"

    def _whole(self, rows: str, same: Mapping[str, Value]) -> str:
        """Return the SQL of rows with all columns that rules read, over one level, where a name is a column and nothing else."""
        contract = self._table.contract
        stamped = ", ".join(f"{literal(f, same.get(f.name))} AS {quote_name(f.name)}" for f in contract.fields if f.name not in self.values)
        values = ", ".join(quote_name(name) for name in self.values)
        return f"SELECT {values}, {MISFITS}, {stamped}, {ARRIVAL} FROM ({rows})"

    def _warnings(self, path: Path, same: Mapping[str, Value]) -> dict[str, int]:
        """Count the rows that are let in although they are unusual, by rule; those rules alone of which there are some."""
        hints = [rule for rule in self._rules if rule.level == "warn" and not rule.reads_bytes]
        if not hints:
            return {}
        counts = ", ".join(f"count(*) FILTER (WHERE {rule.broken})" for rule in hints).replace("`", '"')
        good = self._whole(f"SELECT * FROM {parquet(path)} WHERE {RULE} IS NULL", same)
        found = zip(hints, self._one(f"SELECT {counts} FROM ({good})"), strict=True)
        return {rule.name: count for rule, count in found if count}

    def _copy(self, rows: str, path: Path) -> None:
        noted = metadata(self._made, self._stamped, self.hashed)
        self._database.execute(f"COPY ({rows}) TO {quote_text(str(path))} (FORMAT parquet, COMPRESSION lz4_raw, {noted})")

    def _find_repeated(self, path: Path, staged: Staged) -> bool:
        """Name the identities that several rows have in a temporary table; whether there are any."""
        names = self._once
        if self._is_ascending(path):
            return False
        self._database.execute(
            f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {names}, count(*) AS times FROM {parquet(path)} "
            f"WHERE {self.is_keyed} GROUP BY {names} HAVING count(*) > 1"
        )
        (staged.repeated,) = self._one("SELECT coalesce(CAST(sum(times - 1) AS BIGINT), 0) FROM repeated")
        return staged.repeated > 0

    def _is_ascending(self, path: Path) -> bool:
        """Whether each row's identity is greater than that of the row before, so that none is repeated; looks at one column alone."""
        if len(self._table.identity) != 1:
            return False
        pairs = f"SELECT {self._once} AS one, lag({self._once}) OVER () AS before FROM {parquet(path)} WHERE {self.is_keyed}"
        # Sound in whatever order the rows are read, and much cheaper than counting them: a dump is often sorted by its ids.
        (others,) = self._one(f"SELECT count(*) FROM ({pairs}) WHERE one <= before")
        return others == 0

    @property
    def _once(self) -> str:
        return ", ".join(quote_name(name) for name in self._table.identity if name != self._table.repeats)

    def _make_unique(self, path: Path, staged: Staged, same: Mapping[str, Value]) -> None:
        """Count the repeated rows in the order of the file, or drop all but the last of each identity."""
        beside = path.with_name(f"{path.name}.unique")
        order = "file_row_number" if self._table.repeats else "file_row_number DESC"
        ranked = f"SELECT file_row_number AS n, row_number() OVER (PARTITION BY {self._once} ORDER BY {order}) AS nth FROM {parquet(path)} "
        ranked += f"WHERE {self.is_keyed} AND ({self._once}) IN (SELECT ({self._once}) FROM repeated)"
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE later AS SELECT * FROM ({ranked}) WHERE nth > 1")
        rows = f"SELECT * FROM {parquet(path)} AS one LEFT JOIN later ON one.file_row_number = later.n ORDER BY file_row_number"
        if self._table.repeats:
            counted = f"SELECT * REPLACE (coalesce(nth, 1) AS {quote_name(self._table.repeats)}) FROM ({rows})"
            self._copy(self._judged(counted, same), beside)
        else:
            self._copy(f"SELECT * EXCLUDE (n, nth, file_row_number) FROM ({rows}) WHERE n IS NULL", beside)
        beside.replace(path)

    def _broken(self) -> list[Broken]:
        found = self._database.execute("""
            SELECT s.file_path, e.line, e.error_type, e.csv_line, e.error_message FROM reject_errors AS e
            JOIN reject_scans AS s USING (scan_id, file_id) ORDER BY ALL
        """).fetchall()
        for path, line, why, said, _ in found:
            if why == "UNQUOTED VALUE" and "\n" in str(said):
                raise BrokenCsvError(
                    f"{Path(path).name}, line {line}: a quoted value begins here and does not end as one. All lines after it would be "
                    "lost, so the table was not published. Download the file again, or correct the line."
                )
            if why == "LINE SIZE OVER MAXIMUM":
                raise BrokenCsvError(f"{Path(path).name}, line {line}: the line is too long, perhaps a quoted value that does not end.")
        # A line with several faults stands there once for each.
        lines = {(path, line): Broken(Path(path).name, int(line), str(why).lower(), str(said)) for path, line, why, said, _ in found}
        return list(lines.values())

    def _one(self, query: str) -> tuple[int, ...]:
        # All of it: DuckDB lets no other query begin before a result has been read to its end.
        (row,) = self._database.execute(query).fetchall()
        return tuple(int(value) for value in row)


def _all_known(names: Sequence[str]) -> str:
    return "(" + " AND ".join(f"{quote_name(name)} IS NOT NULL" for name in names) + ")"


def _sentence(error: duckdb.Error) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())
