"""Which UTC days, and how fast, does a command mean? `--since D --until D`, both included, everywhere; `--speed`."""

import re
from datetime import UTC, date, datetime

import typer

Days = tuple[date, date] | None


def day_of(text: str, option: str) -> date:
    """Read a day, YYYY-MM-DD, as given for an option."""
    try:
        return date.fromisoformat(text if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else "")
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text!r} is no day, expected YYYY-MM-DD") from error


def days_of(since: str, until: str) -> Days:
    """Read both options; `until` is today where only `since` is given, and None is all days."""
    if not since:
        if until:
            raise typer.BadParameter("--until needs --since")
        return None
    first, last = day_of(since, "--since"), day_of(until, "--until") if until else datetime.now(UTC).date()
    if first > last:
        raise typer.BadParameter(f"--since {first} lies after --until {last}")
    return first, last


def past_day_of(text: str, option: str) -> date | None:
    """Read a UTC day that has ended, as given for an option; None where nothing was given."""
    if not text:
        return None
    day, today = day_of(text, option), datetime.now(UTC).date()
    if day >= today:
        when = "has not ended yet" if day == today else "lies in the future"
        raise typer.BadParameter(
            f"{option} {day}: that day {when} (today is {today}, UTC). Leave out {option} to read the tables as they are now"
        )
    return day


def factor_of(speed: str) -> float | None:
    """Read a multiple of time, such as 60x; None for max."""
    if speed == "max":
        return None
    if not re.fullmatch(r"\d+(\.\d+)?x", speed) or float(speed[:-1]) == 0:
        raise typer.BadParameter(f"--speed {speed!r}, expected max or a multiple of time such as 1x or 60x")
    return float(speed[:-1])
