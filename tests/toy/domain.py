"""The toy, as the registry finds a domain."""

from lakehouse.domain import Domain
from lakehouse.settings import Settings
from tests.toy.tables import TOY


def build(_: Settings) -> Domain:
    """Give the domain; it needs no settings."""
    return TOY
