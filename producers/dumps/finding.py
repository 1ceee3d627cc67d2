"""Which tables does a dump have, and in which form? Told by the names of its files and by their headers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from producers.dumps.archive import Found
from producers.dumps.csv_files import header_of, to_csv
from producers.dumps.description import Csv, CsvFile, DumpSource, DumpTable, Form
from producers.dumps.errors import TableError, UnusableDumpError


@dataclass(frozen=True, slots=True)
class Readable:
    """A table that the dump has: its form, and the files that were found, by the name of their `CsvFile`."""

    form: Form
    files: Mapping[str, Csv]


@dataclass(frozen=True, slots=True)
class Lacking:
    """A table that the dump does not have, or a file of one: the names of the missing files."""

    files: tuple[str, ...]


# What the dump has of a table; an error where its files cannot be read.
Look = Readable | Lacking | TableError


@dataclass(frozen=True, slots=True)
class _Header:
    found: Found
    columns: tuple[str, ...]


def wanted_files(source: DumpSource) -> list[str]:
    """Return the names of all files that some form of some table reads."""
    return sorted({file.name for table in source.tables for form in table.forms for file in form.files})


def look(source: DumpSource, found: Sequence[Found], is_partial: bool) -> dict[str, Look]:
    """Find out which tables a dump has. A table that no form of the other tables has is absent, since nothing of it can be missing.

    Args:
        source: of the dump.
        found: its files.
        is_partial: whether tables may be missing.

    Raises:
        UnusableDumpError: tables or files are missing and must not be; or the dump has none of the tables.
    """
    headers: dict[str, list[_Header | TableError]] = {}
    for file in found:
        headers.setdefault(file.name.lower(), []).append(_read(file))
    found_forms = {table.name: _form(table, headers) for table in source.tables}
    looks = {table.name: _look(table, found_forms[table.name], headers, is_partial) for table in source.tables}
    there = {found_forms[name].name for name, one in looks.items() if not isinstance(one, Lacking)}
    for table in source.tables:
        if there and isinstance(looks[table.name], Lacking):
            possible = [form for form in table.forms if form.name in there]
            if not possible:
                del looks[table.name]
            elif found_forms[table.name] not in possible:
                # What is missing is said in the form of what is there.
                looks[table.name] = _look(table, possible[0], headers, is_partial)
    lacking = {name: one.files for name, one in looks.items() if isinstance(one, Lacking)}
    if len(lacking) == len(looks) or (lacking and not is_partial):
        names = "; ".join(f"{name} ({', '.join(files)})" for name, files in lacking.items())
        has = ", ".join(sorted(file.name for file in found)) or "none of the files that are read"
        step = "Get the missing files"
        if len(lacking) < len(looks):
            step += ", or publish the other tables with --partial"
        raise UnusableDumpError(f"the dump lacks {names}; it has {has}. {step}.")
    return looks


def _read(file: Found) -> _Header | TableError:
    try:
        return _Header(file, header_of(file.path, file.name))
    except TableError as error:
        return error


def _form(table: DumpTable, headers: Mapping[str, Sequence[_Header | TableError]]) -> Form:
    # Two forms may have a file of the same name: the form is one that has all its files, and most of the columns that are there.
    return max(table.forms, key=lambda form: (_is_there(form, headers), _present(form, headers), -_missing(form, headers)))


def _look(table: DumpTable, form: Form, headers: Mapping[str, Sequence[_Header | TableError]], is_partial: bool) -> Look:
    files: dict[str, Csv] = {}
    lacking = []
    wrong: list[TableError] = []
    for wanted in form.files:
        header = _choose(wanted, headers.get(wanted.name.lower(), ()))
        if isinstance(header, TableError):
            wrong.append(header)
            continue
        if header is None or (wanted.may_lack and not _matches(wanted, header)):
            if not (is_partial and wanted.may_lack):
                lacking.append(wanted.name)
            continue
        try:
            files[wanted.name] = to_csv(header.found.path, header.found.name, wanted, header.columns)
        except TableError as error:
            # A file of that name that is another one: the vocabulary of tags is none of the tags.
            if len(form.files) > 1 or _matches(wanted, header):
                wrong.append(error)
            else:
                lacking.append(wanted.name)
    if lacking:
        # Files of one name may belong to several tables: what is wrong with one matters where the others are there.
        return Lacking(tuple(lacking))
    return wrong[0] if wrong else Readable(form, files)


def _choose(wanted: CsvFile, there: Sequence[_Header | TableError]) -> _Header | TableError | None:
    """Return the file of that name with most of the wanted columns: a folder may have two whose names differ in case alone."""
    if headers := [one for one in there if isinstance(one, _Header)]:
        return max(headers, key=lambda one: _matches(wanted, one))
    return next(iter(there), None)


def _matches(wanted: CsvFile, header: _Header) -> int:
    return len(set(wanted.columns) & set(header.columns))


def _is_there(form: Form, headers: Mapping[str, Sequence[_Header | TableError]]) -> bool:
    every = ((file, _choose(file, headers.get(file.name.lower(), ()))) for file in form.files if not file.may_lack)
    return all(isinstance(header, _Header) and bool(set(file.required) & set(header.columns)) for file, header in every)


def _present(form: Form, headers: Mapping[str, Sequence[_Header | TableError]]) -> int:
    chosen = ((wanted, _choose(wanted, headers.get(wanted.name.lower(), ()))) for wanted in form.files)
    return sum(_matches(wanted, header) for wanted, header in chosen if isinstance(header, _Header))


def _missing(form: Form, headers: Mapping[str, Sequence[_Header | TableError]]) -> int:
    every = ((wanted, headers.get(wanted.name.lower(), ())) for wanted in form.files)
    return len(list(chain.from_iterable(set(wanted.required) - _columns(_choose(wanted, there)) for wanted, there in every)))


def _columns(header: _Header | TableError | None) -> set[str]:
    return set(header.columns) if isinstance(header, _Header) else set()
