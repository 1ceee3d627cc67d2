"""How do the files of a dump become rows? What belongs together is joined into one row; nothing is judged here, see the domain's rules.

Each function returns SQL for DuckDB: the columns of the contract that tell of the row, and what does not fit its type as text, see
`producers/dumps/csv_files.py`. A column that a form lacks is null.
"""

from collections.abc import Mapping, Sequence

from lakehouse.contract import Contract
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, USERS
from lakehouse.tables.schema import quote_name
from producers.dumps.csv_files import other_columns, raw, to_typed
from producers.dumps.description import Csv
from producers.sources.kaggle import forms

# The position in the file that gives the rows their order.
ROW_NUMBER = '"csv:row"'
NOTHING = "CAST(NULL AS VARCHAR)"
# Fields of a dataset that stand with its current version.
_OF_VERSION = ("title", "subtitle", "slug", "license_name", "updated_ts")


def users(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of users, of both forms."""
    csv = files.get(forms.META_USERS.name) or files[forms.SIMPLE_USERS.name]
    columns = {
        "user_id": raw("Id"),
        "user_name": raw("UserName"),
        "display_name": raw("DisplayName"),
        "signup_ts": raw("RegisterDate"),
        "country": raw("Country"),
        "performance_tier": raw("PerformanceTier"),
        "location_sharing_opt_out": raw("LocationSharingOptOut"),
    }
    has = {raw(name) for name in (*csv.header, *forms.META_USERS.known)} if forms.META_USERS.name in files else set(map(raw, csv.header))
    there = {field: column if column in has else "" for field, column in columns.items()}
    return typed_rows(USERS, csv.relation, there, others_of(csv))


def meta_datasets(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of datasets of Meta Kaggle.

    Without DatasetVersions.csv, which a partial dump may lack, what stands there is as it was in the last delivered dump.
    """
    datasets, versions = files[forms.META_DATASETS.name], files.get(forms.META_VERSIONS.name)
    columns = {
        "dataset_id": raw("Id"),
        "title": raw("version Title"),
        "subtitle": raw("version Subtitle"),
        "slug": raw("version Slug"),
        "owner_user_id": f"coalesce({raw('OwnerUserId')}, {raw('CreatorUserId')})",
        "creator_user_id": raw("CreatorUserId"),
        "owner_organization_id": raw("OwnerOrganizationId"),
        "dataset_type": raw("Type"),
        "is_private": "",
        "license_name": raw("version LicenseName"),
        "created_ts": raw("CreationDate"),
        "updated_ts": raw("version CreationDate"),
        "last_activity_ts": raw("LastActivityDate"),
        "total_views": raw("TotalViews"),
        "total_downloads": raw("TotalDownloads"),
        "total_votes": raw("TotalVotes"),
        "total_kernels": raw("TotalKernels"),
    }
    others = others_of(datasets)
    if versions is None:
        there = {field: "" if field in _OF_VERSION else column for field, column in columns.items()}
        return as_before(typed_rows(DATASETS, datasets.relation, there, others), kept, ("dataset_id",), _OF_VERSION)
    needed = ("LicenseName", "CreationDate", "Title", "Slug", "Subtitle", *versions.unknown)
    others |= {f"DatasetVersions.{name}": raw(f"version {name}") for name in versions.unknown}
    current = number(raw("CurrentDatasetVersionId"))
    numbered = f"SELECT *, row_number() OVER () AS {ROW_NUMBER}, {current} AS current FROM ({datasets.relation})"
    named = ", ".join(f"{raw(name)} AS {raw(f'version {name}')}" for name in needed)
    of_current = f"SELECT {number(raw('Id'))} AS version, row_number() OVER () AS nth, {named} FROM ({versions.relation})"
    # Of many versions few are current: the others are left out before anything is kept of them.
    only = f"SELECT * FROM ({of_current}) WHERE version IN (SELECT {current} FROM ({datasets.relation}))"
    one_each = f"SELECT * FROM ({only}) QUALIFY row_number() OVER (PARTITION BY version ORDER BY nth DESC) = 1"
    joined = f"SELECT * FROM ({numbered}) AS d LEFT JOIN ({one_each}) AS v ON d.current = v.version ORDER BY {ROW_NUMBER}"
    return typed_rows(DATASETS, joined, columns, others)


def simple_datasets(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of datasets of the simple form; the one who made a dataset owns it."""
    csv = files[forms.SIMPLE_DATASETS.name]
    columns = {
        "dataset_id": raw("Id"),
        "title": raw("Title"),
        "subtitle": raw("Subtitle"),
        "slug": "",
        "owner_user_id": raw("CreatorUserId"),
        "creator_user_id": raw("CreatorUserId"),
        "owner_organization_id": "",
        "dataset_type": raw("Type"),
        "is_private": raw("IsPrivate"),
        "license_name": "",
        "created_ts": raw("CreationDate"),
        "updated_ts": raw("LastUpdatedDate"),
        "last_activity_ts": "",
        "total_views": raw("TotalViews"),
        "total_downloads": raw("TotalDownloads"),
        "total_votes": "",
        "total_kernels": "",
    }
    return typed_rows(DATASETS, csv.relation, columns, others_of(csv))


def meta_tags(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of datasets' tags of Meta Kaggle; a tag that the vocabulary lacks is null."""
    tags, names = files[forms.META_DATASET_TAGS.name], files[forms.META_TAGS.name]
    columns = {
        "dataset_id": raw("DatasetId"),
        "tag": f"coalesce({raw('tag Slug')}, {raw('tag Name')})",
        "tag_id": raw("TagId"),
        "tag_name": raw("tag Name"),
        "tag_path": raw("tag FullPath"),
    }
    joined, others = with_vocabulary(tags, names)
    return typed_rows(DATASET_TAGS, joined, columns, others)


def with_vocabulary(tags: Csv, names: Csv) -> tuple[str, dict[str, str]]:
    """Join a file of tags with the vocabulary, in the order of the file; of rows of the vocabulary with one id the last counts.

    Returns:
        SQL of the rows, with each column of the vocabulary as `tag NAME`; and the columns that weir does not know, see `others_of`.
    """
    numbered = f"SELECT *, row_number() OVER () AS {ROW_NUMBER}, {number(raw('TagId'))} AS listed FROM ({tags.relation})"
    named = ", ".join(f"{raw(name)} AS {raw(f'tag {name}')}" for name in ("Name", "Slug", "FullPath", *names.unknown))
    vocabulary = (
        f"SELECT {number(raw('Id'))} AS id, {named} FROM (SELECT *, row_number() OVER () AS nth FROM ({names.relation})) "
        "QUALIFY row_number() OVER (PARTITION BY id ORDER BY nth DESC) = 1"
    )
    joined = f"SELECT * FROM ({numbered}) AS t LEFT JOIN ({vocabulary}) AS v ON t.listed = v.id ORDER BY {ROW_NUMBER}"
    return joined, others_of(tags) | {f"Tags.{name}": raw(f"tag {name}") for name in names.unknown}


def simple_tags(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of datasets' tags of the simple form: a row per element of the JSON array.

    An empty array has no tags. A cell that is empty or no JSON array gives a row without a tag, which the rules reject; what stands there
    is among its other columns.
    """
    csv = files[forms.SIMPLE_TAGS.name]
    given = raw("Tags")
    is_array = f"coalesce(json_valid({given}) AND json_type(TRY_CAST({given} AS JSON)) = 'ARRAY', false)"
    elements = f"CASE WHEN {is_array} THEN CAST(TRY_CAST({given} AS JSON) ->> '$[*]' AS VARCHAR[]) ELSE [CAST(NULL AS VARCHAR)] END"
    numbered = f"SELECT *, row_number() OVER () AS {ROW_NUMBER} FROM ({csv.relation})"
    each = f"SELECT *, unnest({elements}) AS tag_of FROM ({numbered}) ORDER BY {ROW_NUMBER}"
    columns = {"dataset_id": raw("DatasetId"), "tag": "tag_of", "tag_id": "", "tag_name": "", "tag_path": ""}
    others = others_of(csv) | {"Tags": f"CASE WHEN NOT {is_array} THEN {given} END"}
    return typed_rows(DATASET_TAGS, each, columns, others)


def others_of(csv: Csv) -> dict[str, str]:
    """Return the columns of a file that weir does not know, as `other_columns` takes them."""
    return {name: raw(name) for name in csv.unknown}


def typed_rows(contract: Contract, rows: str, columns: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Return the SQL of typed rows.

    Args:
        contract: of the rows.
        rows: SQL of rows with text columns.
        columns: {field: SQL of the text that it is read from}; empty for a field that the form lacks.
        others: columns that weir does not know.
    """
    types = {field: (contract.field(field).type, column or NOTHING) for field, column in columns.items()}
    return to_typed(rows, types | {"other_columns": ("string", other_columns(others))})


def number(column: str) -> str:
    """Return the SQL of an id that is written as 771250 or as 771250.0."""
    return f"TRY_CAST(regexp_extract({column}, '^[ ]*([0-9]+)([.]0*)?[ ]*$', 1) AS BIGINT)"


def as_before(rows: str, kept: str | None, identity: Sequence[str], fields: Sequence[str]) -> str:
    """Return the SQL of typed rows with the values that some fields had in the last delivered rows; null where a row is new.

    Args:
        rows: SQL of typed rows.
        kept: SQL of the last delivered rows; None where there are none.
        identity: the fields by which a row is found again.
        fields: those fields, of a file that the dump lacks.
    """
    if kept is None:
        return rows
    before = {name: f"before_{name}" for name in (*identity, *fields)}
    known = ", ".join(f"{quote_name(name)} AS {was}" for name, was in before.items())
    known = f"SELECT {known} FROM ({kept}) WHERE {' AND '.join(f'{quote_name(name)} IS NOT NULL' for name in identity)}"
    replaced = ", ".join(f"{before[name]} AS {quote_name(name)}" for name in fields)
    numbered = f"SELECT *, row_number() OVER () AS n FROM ({rows})"
    return (
        f"SELECT * EXCLUDE (n, {', '.join(before.values())}) REPLACE ({replaced}) FROM ({numbered}) LEFT JOIN ({known}) "
        f"ON {' AND '.join(f'{quote_name(name)} = {before[name]}' for name in identity)} ORDER BY n"
    )
