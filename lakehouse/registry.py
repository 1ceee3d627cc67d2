"""Which domains are there? A new one is a folder in `domains/` and a line in `domain_names.py`."""

from collections.abc import Mapping
from importlib import import_module

from lakehouse.domain import Domain
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.settings import Settings


class UnknownDomain(LakehouseError, Fatal):
    """No domain has that name."""

    def __init__(self, name: str, known: Mapping[str, str]) -> None:
        super().__init__(f"No domain {name!r}; there are: {', '.join(known)}.")


def build_domain(name: str, settings: Settings) -> Domain:
    """Put a domain together from the settings; its configuration files are read each time, so that an added place is used."""
    if name not in DOMAINS:
        raise UnknownDomain(name, DOMAINS)
    domain: Domain = import_module(DOMAINS[name]).build(settings)
    return domain
