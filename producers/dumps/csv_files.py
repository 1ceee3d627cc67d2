"""How is a CSV file of a dump read? By DuckDB, columns by name, every value as text, and the types of a contract from that text.

A whole number may be written as 2188609.0, as pandas writes those of a column with missing values; a date as 07/14/2010, 2010-07-14 or
with a time, which is UTC where no zone is said.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lakehouse.codecs.field_types import field_type
from lakehouse.engine.functions import text
from lakehouse.tables.schema import quote_name, quote_text
from producers.dumps.description import MISFITS, Csv, CsvFile
from producers.dumps.errors import BrokenCsvError, MissingColumnError

# A description may be long; a longer line is more likely a quote that nobody closed.
LONGEST_LINE = 16 * 2**20
# Read at once, twice the longest line. By itself DuckDB takes sixteen lines, 256 MiB, of the memory in which it writes beside reading.
READ_AT_ONCE = 32 * 2**20
_TRUE, _FALSE = ("true", "t", "1", "1.0", "yes", "y"), ("false", "f", "0", "0.0", "no", "n")
_WHOLE = r"\s*[+-]?[0-9]+([.]0*)?\s*"
_DATES = ("%m/%d/%Y", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p")
# What begins as an ISO date but is none of these: with parts of a second or a zone.
_ISO = r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}.*"


def raw(column: str) -> str:
    """Return the SQL name of a file's column: other than that of any field, since DuckDB's names know no case."""
    return quote_name(f"csv:{column}")


def file_name(path: Path) -> str:
    """Return the SQL literal of one file's name, which DuckDB would otherwise read as a pattern.

    In a pattern DuckDB takes a backslash for the end of a folder's name, so not every name can be said as one. A file below a folder of
    such a name is opened here, and named by its descriptor until the process ends.
    """
    name = f"/dev/fd/{os.open(path, os.O_RDONLY)}" if re.search(r"[*?\[]", str(path)) else str(path)
    return quote_text(name)


def header_of(path: Path, name: str) -> tuple[str, ...]:
    """Return the names of a file's columns, without a byte order mark.

    Raises:
        BrokenCsvError: it is empty, is no text, or names a column twice or not at all.
    """
    try:
        # More is decoded than the header: bytes of a later line that are no UTF-8 must not matter here.
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = tuple(column.strip() for column in next(csv.reader(file, strict=True), []))
        if any("\ufffd" in column for column in header):
            raise csv.Error("bytes that are no UTF-8")
    except csv.Error as error:
        raise BrokenCsvError(f"{name}: the header is no line of CSV in UTF-8 ({error}). Download the file again.") from error
    if not header:
        raise BrokenCsvError(f"{name} is empty, expected a header with the names of the columns. Download the file again.")
    folded = [column.lower() for column in header]
    if twice := sorted({column or "(no name)" for column in header if not column or folded.count(column.lower()) > 1}):
        raise BrokenCsvError(f"{name}: the header names {', '.join(twice)} twice or not at all, so columns cannot be told by name.")
    return header


def to_csv(path: Path, name: str, wanted: CsvFile, header: tuple[str, ...]) -> Csv:
    """Describe a file whose header was read.

    Raises:
        MissingColumnError: it lacks a required column.
    """
    if missing := [column for column in wanted.required if column not in header]:
        raise MissingColumnError(name, missing, header)
    unknown = tuple(column for column in header if column not in wanted.columns)
    return Csv(path, name, _relation(path, header, [column for column in wanted.columns if column not in header]), header, unknown)


def _relation(path: Path, header: Sequence[str], lacking: Iterable[str]) -> str:
    # By place and not by name: DuckDB's names know no case.
    columns = ", ".join(f"'c{n}': 'VARCHAR'" for n in range(len(header)))
    named = [f"c{n} AS {raw(column)}" for n, column in enumerate(header)]
    named += [f"CAST(NULL AS VARCHAR) AS {raw(column)}" for column in lacking]
    return (
        f"SELECT {', '.join(named)} FROM read_csv({file_name(path)}, auto_detect = false, header = true, delim = ',', quote = '\"', "
        f"escape = '\"', columns = {{{columns}}}, max_line_size = {LONGEST_LINE}, buffer_size = {READ_AT_ONCE}, store_rejects = true)"
    )


def typed(kind: str, column: str) -> str:
    """Return the SQL of a text column's value in the type of a contract's field; null where the text is none.

    Raises:
        ValueError: no dump has had such a type yet.
    """
    if kind == "string":
        return column
    if kind == "long":
        plain = f"TRY_CAST({column} AS BIGINT)"
        # DuckDB itself rounds 1.5 and reads 1e3: only what is written as a whole number is one.
        whole = f"TRY_CAST(regexp_extract({column}, '[+-]?[0-9]+') AS BIGINT)"
        return f"CASE WHEN CAST({plain} AS VARCHAR) = {column} THEN {plain} WHEN regexp_full_match({column}, '{_WHOLE}') THEN {whole} END"
    if (sort := field_type(kind)).precision:
        # DuckDB itself rounds digits that the type has not, and reads 1e3.
        fits = f"\\s*[+-]?0*[0-9]{{0,{sort.precision - sort.scale}}}([.][0-9]{{0,{sort.scale}}}0*)?\\s*"
        return f"CASE WHEN regexp_full_match({column}, '{fits}') THEN TRY_CAST(trim({column}) AS {sort.duckdb}) END"
    if kind == "timestamp":
        formats = ", ".join(f"'{one}'" for one in _DATES)
        # By the microseconds: a cast to TIMESTAMPTZ looks the zone up, which takes twice as long as reading the date.
        plain, trimmed = (f"TRY_STRPTIME({given}, [{formats}])" for given in (column, f"trim({column})"))
        zoned = f"WHEN regexp_full_match({column}, '{_ISO}') THEN TRY_CAST(trim({column}) AS TIMESTAMPTZ)"
        return (
            f"CASE WHEN {plain} IS NOT NULL THEN make_timestamptz(epoch_us({plain})) "
            f"WHEN {trimmed} IS NOT NULL THEN make_timestamptz(epoch_us({trimmed})) {zoned} END"
        )
    if kind == "boolean":
        # Named once: what stands in two branches, DuckDB computes for every row.
        known = f"nullif(array_position([{_texts((*_FALSE, *_TRUE))}], lower(trim({column}))), 0)"
        other = f"{known} > {len(_FALSE)}"
        # The usual spellings first, since the others take ten times as long.
        return f"CASE {column} WHEN 'False' THEN false WHEN 'True' THEN true ELSE {other} END"
    raise ValueError(f"a dump's text is not read as {kind}; expected string, long, decimal, timestamp or boolean")


def to_typed(rows: str, columns: Mapping[str, tuple[str, str]]) -> str:
    """Return the SQL of rows with typed columns and MISFITS.

    Args:
        rows: SQL of rows with text columns.
        columns: {field: its type, and the SQL of the text that it is read from}.
    """
    odd = {
        field: f"CASE WHEN {quote_name(field)} IS NULL THEN trim({source}) <> '' ELSE false END"
        for field, (kind, source) in columns.items()
        if kind != "string"
    }
    values = ", ".join(f"{typed(kind, source)} AS {quote_name(field)}" for field, (kind, source) in columns.items())
    kept = ", ".join(quote_name(field) for field in columns)
    said = ", ".join(
        f"CASE WHEN {condition} THEN concat('\"{field}\":', to_json({columns[field][1]})) END" for field, condition in odd.items()
    )
    misfits = f"CASE WHEN {' OR '.join(odd.values())} THEN concat_ws(',', {said}) END" if odd else "CAST(NULL AS VARCHAR)"
    return f"SELECT {kept}, {misfits} AS {MISFITS} FROM (SELECT *, {values} FROM ({rows}))"


def other_columns(columns: Mapping[str, str]) -> str:
    """Return the SQL of the JSON object, as text, of columns that are not null; null where there is none.

    Args:
        columns: {name in the object: SQL of the text}.
    """
    if not columns:
        return "CAST(NULL AS VARCHAR)"
    said = ", ".join(
        f"CASE WHEN {column} IS NOT NULL THEN concat(to_json({text(name)}), ':', to_json({column})) END" for name, column in columns.items()
    )
    return f"'{{' || nullif(concat_ws(',', {said}), '') || '}}'"


def _texts(values: Iterable[str]) -> str:
    return ", ".join(text(value) for value in values)
