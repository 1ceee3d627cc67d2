"""Dumps of a small Kaggle, and the messages that publish them: what was added, what changed and what has gone since the dump before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from lakehouse.contract import Value
from lakehouse.domains.kaggle.contract import SOURCE_SYSTEM

Record = Mapping[str, Value]
Key = tuple[Any, ...]
Rows = Mapping[Key, Record]
KEYS = {
    "users": ("user_id",),
    "datasets": ("dataset_id",),
    "dataset_tags": ("dataset_id", "tag", "occurrence"),
    "competitions": ("competition_id",),
    "organizations": ("organization_id",),
    "competition_tags": ("competition_id", "tag_id"),
    "kernels": ("kernel_id",),
}
CREATED = datetime(2024, 1, 10, 8, 30, tzinfo=UTC)


def user(number: int, name: str | None = "", **more: Value) -> dict[str, Value]:
    """Build a user's row."""
    base: dict[str, Value] = {"user_name": f"user-{number}" if name == "" else name, "country": "Viet Nam", "signup_ts": CREATED}
    return {"user_id": number, **base, **more}


def dataset(number: int, owner: int | None, **more: Value) -> dict[str, Value]:
    """Build a dataset's row."""
    base: dict[str, Value] = {
        "title": f"Data {number}",
        "owner_user_id": owner,
        "creator_user_id": owner,
        "is_private": False,
        "created_ts": CREATED,
        "updated_ts": CREATED + timedelta(days=3),
        "total_views": 100 * number,
        "total_downloads": 10 * number,
    }
    return {"dataset_id": number, **base, **more}


def tagged(number: int, *tags: str) -> list[dict[str, Value]]:
    """Build the rows of a dataset's tags."""
    return [{"dataset_id": number, "tag": tag, "tag_name": tag, "occurrence": 1} for tag in tags]


def competition(number: int, year: int | None = 2024, **more: Value) -> dict[str, Value]:
    """Build a competition's row."""
    base: dict[str, Value] = {
        "slug": f"contest-{number}",
        "title": f"Contest {number}",
        "host_segment": "Featured",
        "enabled_ts": None if year is None else datetime(year, 1, 1, tzinfo=UTC),
        "deadline_ts": None if year is None else datetime(year, 3, 1, 23, 59, tzinfo=UTC),
        "reward_type": "USD",
        "reward_quantity": Decimal(1000),
        "total_teams": 10,
        "total_competitors": 12,
        "total_submissions": 100,
    }
    return {"competition_id": number, **base, **more}


def organization(number: int, **more: Value) -> dict[str, Value]:
    """Build an organization's row."""
    return {"organization_id": number, "organization_name": f"Org {number}", "description": "One\n\ntwo", **more}


def competition_tag(number: int, tag_id: int, **more: Value) -> dict[str, Value]:
    """Build a row of a competition's tags."""
    return {"competition_id": number, "tag_id": tag_id, "tag": f"tag-{tag_id}", "tag_name": f"tag {tag_id}", **more}


def kernel(number: int, author: int | None = 1, **more: Value) -> dict[str, Value]:
    """Build a kernel's row, of which the dump has the day alone on which it was made public."""
    base: dict[str, Value] = {
        "author_user_id": author,
        "title": f"Kernel {number}",
        "language": "Python",
        "created_ts": CREATED,
        "made_public_ts": datetime(2024, 1, 10, tzinfo=UTC),
        "total_votes": 3,
    }
    return {"kernel_id": number, **base, **more}


@dataclass(frozen=True)
class Dump:
    """The rows of some tables on a day.

    Attributes:
        day: of the dump.
        tables: rows by key, by table; a table that is not named was not dumped.
        hour: of the dump.
    """

    day: date
    tables: Mapping[str, Rows] = field(default_factory=dict)
    hour: int = 6

    @classmethod
    def of(cls, day: date, **tables: Sequence[Record]) -> "Dump":
        """Build a dump of rows."""
        return cls(day, {name: {tuple(row[key] for key in KEYS[name]): row for row in rows} for name, rows in tables.items()})

    @property
    def run(self) -> dict[str, Value]:
        """What every message of the dump says of it."""
        run_ts = datetime(self.day.year, self.day.month, self.day.day, self.hour, tzinfo=UTC)
        return {"run_date": self.day, "run_ts": run_ts, "source_file": "made up", "source_system": SOURCE_SYSTEM}


def messages(dumps: Sequence[Dump]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Yield table ("dumps" too) and record of every message that publishes some dumps, in their order."""
    before: dict[str, Rows] = {}
    for dump in dumps:
        for name, rows in dump.tables.items():
            old = before.get(name, {})
            added = [row for key, row in rows.items() if key not in old]
            changed = [row for key, row in rows.items() if key in old and old[key] != row]
            gone = [dict(zip(KEYS[name], key, strict=True)) for key in old if key not in rows]
            for row in (*added, *changed):
                yield name, {**row, **dump.run}
            for row in gone:
                if row.get("occurrence", 1) != 1:
                    continue  # it was rejected when it came, so nothing of it can go
                yield name, {**row, **dump.run, "is_gone": True}
            counts: dict[str, Value] = {
                "rows": len(rows),
                "added": len(added),
                "changed": len(changed),
                "gone": len(gone),
                "form": "simple",
            }
            yield "dumps", {"table_name": name, **dump.run, **counts}
            before[name] = rows


def on_day(dump: Dump, days: int) -> Dump:
    """Give the same rows in a dump of another day."""
    return replace(dump, day=dump.day + timedelta(days=days))
