"""The answer of Kaggle's dataset search of August 2024: as a dump under the real headers, and what the answer itself says."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tests.kaggle.dumps import Dump, Record

FOLDER = Path(__file__).parents[1] / "data" / "kaggle" / "2024-08"
DAY = date(2024, 8, 20)


def answer() -> list[dict[str, Any]]:
    """Give what the answer says of each dataset; of two that it lists twice, what it says last."""
    listed = [json.loads(line) for line in (FOLDER / "answer.jsonl").read_text(encoding="utf-8").splitlines()]
    return list({one["dataset_id"]: one for one in listed}.values())


def dump() -> Dump:
    """Give the dump; titles stand in another table of the real one, and are taken from the answer."""
    titles = {one["dataset_id"]: one["title"] for one in answer()}
    tags = {row["Id"]: row for row in _rows("Tags")}
    users = [
        {
            "user_id": int(row["Id"]),
            "user_name": row["UserName"],
            "country": row["Country"] or None,
            "signup_ts": _instant(row["RegisterDate"]),
        }
        for row in _rows("Users")
    ]
    datasets = [
        {
            "dataset_id": int(row["Id"]),
            "title": titles[int(row["Id"])],
            "owner_user_id": int(row["OwnerUserId"]),
            "creator_user_id": int(row["CreatorUserId"]),
            "created_ts": _instant(row["CreationDate"]),
            "total_views": int(row["TotalViews"]),
            "total_downloads": int(row["TotalDownloads"]),
        }
        for row in _rows("Datasets")
    ]
    seen: Counter[tuple[str, str]] = Counter()
    named: list[Record] = [
        {
            "dataset_id": int(row["DatasetId"]),
            "tag": tags[row["TagId"]]["Slug"],
            "tag_id": int(row["TagId"]),
            "tag_name": tags[row["TagId"]]["Name"],
            "tag_path": tags[row["TagId"]]["FullPath"],
            "occurrence": _count(seen, (row["DatasetId"], row["TagId"])),
        }
        for row in _rows("DatasetTags")
    ]
    return Dump.of(DAY, users=users, datasets=datasets, dataset_tags=named)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _instant(text: str) -> datetime | None:
    return datetime.strptime(text, "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC) if text else None


def _count(seen: Counter[tuple[str, str]], one: tuple[str, str]) -> int:
    seen[one] += 1
    return seen[one]
