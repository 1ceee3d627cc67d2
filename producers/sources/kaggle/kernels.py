"""Which files and columns of Meta Kaggle tell of kernels, and how do they become rows? See `rows.py`.

A kernel's title and language stand with its current version, and the languages in a table of their own. Source: Meta Kaggle of July 2025,
in which KernelVersions.csv has 15 million rows, ten for each kernel. The simple form of a dump has no kernels.
"""

from collections.abc import Mapping

from lakehouse.domains.kaggle.kernels.contract import KERNELS
from producers.dumps.csv_files import raw
from producers.dumps.description import Csv, CsvFile
from producers.sources.kaggle.rows import NOTHING, ROW_NUMBER, as_before, number, others_of, typed_rows

META_KERNELS = CsvFile(
    "Kernels.csv",
    required=(
        "Id",
        "AuthorUserId",
        "CurrentKernelVersionId",
        "CreationDate",
        "MadePublicDate",
        "TotalVotes",
    ),
    known=(
        "TotalViews",
        "TotalComments",
        "CurrentUrlSlug",
        "ForkParentKernelVersionId",
        "Medal",
        # Not used.
        "ForumTopicId",
        "FirstKernelVersionId",
        "EvaluationDate",
        "IsProjectLanguageTemplate",
        "MedalAwardDate",
    ),
)
META_VERSIONS = CsvFile(
    "KernelVersions.csv",
    required=("Id", "ScriptLanguageId", "Title"),
    known=(
        # Not used.
        "ScriptId",
        "ParentScriptVersionId",
        "AuthorUserId",
        "CreationDate",
        "VersionNumber",
        "EvaluationDate",
        "IsChange",
        "TotalLines",
        "LinesInsertedFromPrevious",
        "LinesDeletedFromPrevious",
        "LinesChangedFromPrevious",
        "LinesUnchangedFromPrevious",
        "LinesInsertedFromFork",
        "LinesDeletedFromFork",
        "LinesChangedFromFork",
        "LinesUnchangedFromFork",
        "TotalVotes",
        "IsInternetEnabled",
        "RunningTimeInMilliseconds",
        "AcceleratorTypeId",
        "DockerImage",
    ),
    may_lack=True,
)
META_LANGUAGES = CsvFile("KernelLanguages.csv", required=("Id", "Name", "DisplayName", "IsNotebook"), may_lack=True)
_OF_LANGUAGE = ("language", "language_name", "is_notebook")
_OF_VERSION = ("title", *_OF_LANGUAGE)


def meta_kernels(files: Mapping[str, Csv], kept: str | None) -> str:
    """Return the SQL of kernels of Meta Kaggle.

    Without KernelVersions.csv, or KernelLanguages.csv, which a partial dump may lack, what stands there is as it was in the last
    delivered dump.
    """
    kernels, versions, languages = files[META_KERNELS.name], files.get(META_VERSIONS.name), files.get(META_LANGUAGES.name)
    columns = {
        "kernel_id": raw("Id"),
        "author_user_id": raw("AuthorUserId"),
        "title": raw("version Title"),
        "slug": raw("CurrentUrlSlug"),
        "current_version_id": raw("CurrentKernelVersionId"),
        "language": f"coalesce({raw('language DisplayName')}, {raw('language Name')})",
        "language_name": raw("language Name"),
        "is_notebook": raw("language IsNotebook"),
        "forked_from_version_id": raw("ForkParentKernelVersionId"),
        "created_ts": raw("CreationDate"),
        "made_public_ts": raw("MadePublicDate"),
        "medal": raw("Medal"),
        "total_views": raw("TotalViews"),
        "total_comments": raw("TotalComments"),
        "total_votes": raw("TotalVotes"),
    }
    if versions is None:
        there = columns | dict.fromkeys(_OF_VERSION, "")
        return as_before(typed_rows(KERNELS, kernels.relation, there, others_of(kernels)), kept, ("kernel_id",), _OF_VERSION)
    others = others_of(kernels) | {f"KernelVersions.{name}": raw(f"version {name}") for name in versions.unknown}
    needed = ", ".join(f"{raw(name)} AS {raw(f'version {name}')}" for name in ("Title", *versions.unknown))
    current = number(raw("CurrentKernelVersionId"))
    # Of many versions few are current: the others are left out before anything is kept of them.
    of_current = f"""
        SELECT * FROM (
          SELECT {number(raw("Id"))} AS version, row_number() OVER () AS nth, {number(raw("ScriptLanguageId"))} AS of_language, {needed}
          FROM ({versions.relation})
        ) WHERE version IN (SELECT {current} FROM ({kernels.relation}))
        QUALIFY row_number() OVER (PARTITION BY version ORDER BY nth DESC) = 1
    """
    named = {name: raw(f"language {name}") for name in ("Name", "DisplayName", "IsNotebook", *(languages.unknown if languages else ()))}
    others |= {f"KernelLanguages.{name}": named[name] for name in (languages.unknown if languages else ())}
    listed = "SELECT 0 AS language_id, " + ", ".join(f"{NOTHING} AS {column}" for column in named.values())
    if languages is not None:
        listed = f"""
            SELECT {number(raw("Id"))} AS language_id, {", ".join(f"{raw(name)} AS {column}" for name, column in named.items())}
            FROM (SELECT *, row_number() OVER () AS nth FROM ({languages.relation}))
            QUALIFY row_number() OVER (PARTITION BY language_id ORDER BY nth DESC) = 1
        """
    joined = f"""
        SELECT * FROM (SELECT *, row_number() OVER () AS {ROW_NUMBER}, {current} AS current FROM ({kernels.relation})) AS k
        LEFT JOIN ({of_current}) AS v ON k.current = v.version LEFT JOIN ({listed}) AS l ON v.of_language = l.language_id
        ORDER BY {ROW_NUMBER}
    """
    rows = typed_rows(KERNELS, joined, columns, others)
    return rows if languages is not None else as_before(rows, kept, ("kernel_id",), _OF_LANGUAGE)
