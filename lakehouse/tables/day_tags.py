"""What is the tag of a day called? Maintenance tags silver and gold at the end of every UTC day; `--as-of` reads a table at one."""

import re
from collections.abc import Iterable
from datetime import date

_PREFIX = "day-"


def tag_name(day: date) -> str:
    """Name the tag of the end of a UTC day."""
    return f"{_PREFIX}{day:%Y-%m-%d}"


def day_of_tag(name: str) -> date | None:
    """Give the day that a tag is named for; None where it is no day's."""
    if not re.fullmatch(rf"{_PREFIX}\d{{4}}-\d\d-\d\d", name):
        return None
    try:
        return date.fromisoformat(name.removeprefix(_PREFIX))
    except ValueError:
        return None


def tagged_days(names: Iterable[str]) -> list[date]:
    """Give the days that a table's tags are named for, in order."""
    return sorted(day for day in map(day_of_tag, names) if day is not None)
