"""Two dumps in the form of Meta Kaggle, made from the first rows of the real files: the second has every kind of change."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.dumps import write_csv

HEADS = Path(__file__).parents[1] / "data" / "kaggle" / "heads"
Table = tuple[list[str], list[list[str]]]

# What the report says of the second dump.
EXPECTED: dict[str, dict[str, Any]] = {
    "users": {
        "state": "published",
        "form": "meta",
        "input": 8,
        "output": 5,
        "rejects": 2,
        "repeated": 1,
        "added": 3,
        "changed": 2,
        "gone": 1,
        "delivered": 6,
        "without_key": 1,
        "unknown_columns": {"Users.csv": ["Pronouns"]},
    },
    "datasets": {
        "state": "published",
        "files": ["Datasets.csv", "DatasetVersions.csv"],
        "input": 5,
        "output": 4,
        "rejects": 1,
        "added": 1,
        "changed": 3,
        "gone": 1,
        "delivered": 5,
        "top_reasons": [{"reason": "out_of_range", "rows": 1}],
    },
    "dataset_tags": {"state": "published", "input": 6, "added": 3, "changed": 0, "gone": 2, "delivered": 5, "without_key": 1},
    "organizations": {"state": "published", "input": 5, "rejects": 0, "added": 1, "changed": 1, "gone": 1, "delivered": 3},
    "competitions": {
        "state": "published",
        "input": 5,
        "output": 4,
        "added": 1,
        "changed": 2,
        "gone": 1,
        "delivered": 4,
        "top_reasons": [{"reason": "out_of_range", "rows": 1}],
        "warnings": {"deadline_before_enabled": 1, "reward_at_odds": 1},
        "unknown_columns": {"Competitions.csv": ["Theme"]},
    },
    "competition_tags": {"state": "published", "input": 3, "output": 3, "added": 2, "changed": 0, "gone": 1, "delivered": 3},
    "kernels": {
        "state": "published",
        "files": ["Kernels.csv", "KernelVersions.csv", "KernelLanguages.csv"],
        "input": 5,
        "rejects": 2,
        "added": 1,
        "changed": 3,
        "gone": 1,
        "delivered": 5,
        "top_reasons": [{"reason": "no_author", "rows": 1}, {"reason": "public_before_created", "rows": 1}],
    },
}


def read_head(name: str) -> Table:
    """Read the first rows of a file of Meta Kaggle."""
    with (HEADS / name).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write both dumps; give their folders."""
    return _first(folder / "first"), _second(folder / "second")


def _versions(datasets: list[list[str]]) -> Table:
    """Give each dataset a current version: those of the first rows are of other datasets."""
    header, rows = read_head("DatasetVersions.csv")
    current = []
    for dataset, row in zip(datasets, rows, strict=True):
        number, at = dataset[4].removesuffix(".0"), dict(zip(header, row, strict=True))
        current.append(list({**at, "Id": number, "DatasetId": dataset[0], "Slug": f"slug-{number}", "CreationDate": dataset[8]}.values()))
    return header, rows + current


def _first(folder: Path) -> Path:
    write_csv(folder / "Users.csv", *read_head("Users.csv"))
    header, datasets = read_head("Datasets.csv")
    write_csv(folder / "Datasets.csv", header, datasets)
    write_csv(folder / "DatasetVersions.csv", *_versions(datasets))
    write_csv(folder / "Tags.csv", *read_head("Tags.csv"))
    tags = [(1, 402034, 1115), (2, 402034, 1219), (3, 13, 1220), (4, 14, 1222), (5, 14, 2100)]
    write_csv(folder / "DatasetTags.csv", ["Id", "DatasetId", "TagId"], tags)
    _write_others(folder, read_head("Organizations.csv")[1], competitions(), [(1, 2408, 1219), (2, 2435, 99999)], *kernels())
    return folder


def competitions() -> list[dict[str, str]]:
    """Give the first competitions; of the columns in the middle, which were not printed, those that are read."""
    header, rows = read_head("Competitions.csv")
    counts = {"RewardType": "USD", "RewardQuantity": "1000.0", "TotalTeams": "22", "TotalCompetitors": "25", "TotalSubmissions": "40"}
    return [dict(zip(header, row, strict=True)) | counts for row in rows]


def kernels() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Give the first kernels, and versions of which each has a current one: those of the first rows are of other kernels."""
    (header, rows), (names, versions) = read_head("Kernels.csv"), read_head("KernelVersions.csv")
    listed = [dict(zip(header, row, strict=True)) for row in rows]
    known = [dict(zip(names, row, strict=True)) for row in versions]
    for row, language in zip(listed, ("1", "2.0", "5", "8", ""), strict=True):
        number = row["CurrentKernelVersionId"].removesuffix(".0")
        known.append(known[0] | {"Id": number, "ScriptId": row["Id"], "ScriptLanguageId": language, "Title": f"Title {number}"})
    return listed, known


def _write_others(
    folder: Path,
    organizations: list[list[str]],
    competitions: list[dict[str, str]],
    tags: Sequence[tuple[int, int, int]],
    kernels: list[dict[str, str]],
    versions: list[dict[str, str]],
) -> None:
    write_csv(folder / "Organizations.csv", read_head("Organizations.csv")[0], organizations)
    write_csv(folder / "CompetitionTags.csv", ["Id", "CompetitionId", "TagId"], tags)
    write_csv(folder / "KernelLanguages.csv", *read_head("KernelLanguages.csv"))
    for name, rows in (("Competitions", competitions), ("Kernels", kernels), ("KernelVersions", versions)):
        write_csv(folder / f"{name}.csv", list(rows[0]), [list(row.values()) for row in rows])


def _second(folder: Path) -> Path:
    header, users = read_head("Users.csv")
    people = [dict(zip(header, row, strict=True)) for row in users]
    people[1]["Country"] = "Australia"
    people[2] |= {"DisplayName": 'Isa "I", the\r\nfirst', "Pronouns": "she/her"}
    people[4]["Id"] = "384.0"  # the same number
    del people[3]  # this one has gone
    people += [
        {"Id": "500", "UserName": "older", "RegisterDate": "02/29/2012 23:59:59"},
        {"Id": "500", "UserName": "newer", "RegisterDate": "02/29/2012 23:59:59", "LocationSharingOptOut": "TRUE"},
        {"Id": "", "UserName": "nobody", "RegisterDate": "03/01/2012"},
        {"Id": "501", "UserName": "odd", "RegisterDate": "some day", "PerformanceTier": "high"},
    ]
    # Columns in another order, one that nobody knows, with a byte order mark and line breaks of Windows.
    columns = ["Country", "Id", "Pronouns", *[name for name in header if name not in ("Country", "Id")]]
    said = io.StringIO(newline="")
    writer = csv.DictWriter(said, columns, restval="", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(people)
    folder.mkdir(parents=True)
    (folder / "Users.csv").write_bytes(b"\xef\xbb\xbf" + said.getvalue().encode())

    header, rows = read_head("Datasets.csv")
    _, versions = _versions(rows)
    names = {name: place for place, name in enumerate(header)}
    rows[0][names["TotalViews"]] = "2696.0"  # the same number
    rows[1][names["CurrentDatasetVersionId"]] = "900000.0"
    versions.append(["900000", rows[1][0], "900000", "1", "CC0: Public Domain", "07/30/2025 10:00:00", "2.0", "A new title", "a-new-title"])
    versions[-1] += ["two\nlines", "", "", "", ""]
    rows[3][names["OwnerUserId"]], rows[3][names["OwnerOrganizationId"]] = "1132983", ""
    rows[4][names["TotalDownloads"]] = "-1"
    del rows[2]
    rows.append(["77", *rows[0][1:]])
    write_csv(folder / "Datasets.csv", header, rows)
    write_csv(folder / "DatasetVersions.csv", read_head("DatasetVersions.csv")[0], versions)

    write_csv(folder / "Tags.csv", *read_head("Tags.csv"))
    # The first is listed twice, one is new, one is no tag that the vocabulary has, and two have gone.
    tags = [(1, 402034, 1115), (9, 402034, 1115), (3, 13, 1220), (4, 14, 1222), (10, 77, 1219), (11, 77, 99999)]
    write_csv(folder / "DatasetTags.csv", ["Id", "DatasetId", "TagId"], tags)
    _write_second_others(folder)
    return folder


def _write_second_others(folder: Path) -> None:
    organizations = read_head("Organizations.csv")[1]
    del organizations[0]
    organizations[1][1] = "Kaggle, Inc."
    organizations.append(["8", "New", "new", "01/01/2025", 'First line\n\n"quoted", last line'])

    # Columns in another order, and one that nobody knows.
    listed = [{"Theme": "", **dict(reversed(row.items()))} for row in competitions()]
    listed[0] |= {"TotalTeams": "23.0", "Theme": "music"}
    listed[1]["TotalSubmissions"] = "-1"
    del listed[2]
    listed.append(listed[2] | {"Id": "9999", "HostSegmentTitle": "Getting Started", "OrganizationId": "8.0"})
    listed[-1] |= {"RewardType": "Knowledge", "DeadlineDate": "01/01/2009 00:00:00"}

    known, versions = kernels()
    known[0]["CurrentKernelVersionId"] = "900000"
    versions.append(versions[0] | {"Id": "900000", "ScriptLanguageId": "9", "Title": "A new\ntitle"})
    known[1]["AuthorUserId"] = ""
    known[2]["MadePublicDate"] = "03/24/2015"
    del known[3]
    known.append(known[0] | {"Id": "7", "TotalVotes": "1"})
    # One has gone, and two are new, of which one is of no competition.
    _write_others(folder, organizations, listed, [(1, 2408, 1219), (3, 2408, 1220), (4, 77, 1115)], known, versions)
