"""Which domains are there? A new one is a folder in `domains/` and a line in `BUILDERS`."""

from collections.abc import Callable

from lakehouse.domain import Domain
from lakehouse.domains.air_quality.tables import air_quality
from lakehouse.domains.air_quality.transforms import GoldRules
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locations import locations_file, pollutants_file, read_places, read_pollutants
from lakehouse.settings import Settings


class UnknownDomain(LakehouseError, Fatal):
    """No domain has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No domain {name!r}; there are: {', '.join(BUILDERS)}.")


def _air_quality(settings: Settings) -> Domain:
    locations, left_out = read_places(locations_file(settings.locations_path, settings.home))
    zones = {place.location_key: place.timezone for place in locations}
    rules = GoldRules(settings.aqi_rule, settings.episode_threshold, settings.episode_hours, zones)
    return air_quality(rules, locations, read_pollutants(pollutants_file(settings.pollutants_path)), left_out)


BUILDERS: dict[str, Callable[[Settings], Domain]] = {"air_quality": _air_quality}


def build_domain(name: str, settings: Settings) -> Domain:
    """Put a domain together from the settings; reads its configuration files anew, so that an added place is seen."""
    if name not in BUILDERS:
        raise UnknownDomain(name)
    return BUILDERS[name](settings)
