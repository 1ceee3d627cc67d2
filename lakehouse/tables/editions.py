"""By which edition of its rules was gold computed? Noted in the properties of its tables, and compared with the settings."""

from collections.abc import Callable
from typing import Any

from lakehouse.domain import Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.tables.properties import edition_property

# A table's properties, by the table's name: Python's or Java's map.
PropertiesOf = Callable[[str], Any]


class OtherEdition(LakehouseError, Fatal):
    """Gold was computed by other rules than those of the settings."""

    def __init__(self, domain: str, table: str, what: str, found: str, expected: str, is_setting: bool = True) -> None:
        by, back = ("the settings say", f"Set it back to {found}, or rebuild") if is_setting else ("this version computes by", "Rebuild")
        super().__init__(
            f"{table} was made with {what} {found}, {by} {expected}; rows of two editions in one table would not compare. "
            f"{back} gold: weir rebuild {domain} --layer gold (--dry-run shows what changes)."
        )


def edition_properties(domain: Domain) -> dict[str, str]:
    """Return the properties of a gold table that name the edition of its rules."""
    return {edition_property(what): value for what, value in domain.edition.items()}


def check_edition(domain: Domain, properties_of: PropertiesOf) -> None:
    """Check that gold was computed by the domain's edition; a table without these properties is new.

    Raises:
        OtherEdition: it was not.
    """
    for derived in domain.derived if domain.edition else ():
        for what, found in edition_of(domain, properties_of(derived.table.name)).items():
            if found != domain.edition[what]:
                is_setting = what not in domain.edition_before
                raise OtherEdition(domain.name, derived.table.name, what, found, domain.edition[what], is_setting)


def edition_of(domain: Domain, properties: Any) -> dict[str, str]:  # noqa: ANN401 - Python's or Java's map
    """Return the edition by which a gold table was computed; empty for a new table."""
    said = {what: found for what in domain.edition if (found := properties.get(edition_property(what))) is not None}
    return {**domain.edition_before, **said} if said else {}
