"""How is air quality put together from the settings? Its places, its edition, then the tables."""

from dataclasses import replace

from lakehouse.domain import Domain
from lakehouse.domains.air_quality.locations import describe_places, locations_file, pollutants_file, read_places, read_pollutants
from lakehouse.domains.air_quality.tables import air_quality
from lakehouse.domains.air_quality.transforms import GoldRules
from lakehouse.settings import Settings


def build(settings: Settings) -> Domain:
    """Put the domain together; the lists of places and pollutants are read each time, so that an added place is used.

    Raises:
        BadListError: a list cannot be read.
    """
    path = locations_file(settings.locations_path, settings.home)
    locations, left_out = read_places(path)
    zones = {place.location_key: place.timezone for place in locations}
    rules = GoldRules(settings.aqi_rule, settings.episode_threshold, settings.episode_hours, zones)
    domain = air_quality(rules, locations, read_pollutants(pollutants_file(settings.pollutants_path)), left_out)
    return replace(domain, configuration=lambda: describe_places(path))
