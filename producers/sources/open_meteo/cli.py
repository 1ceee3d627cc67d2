"""How is a place added to the list that is polled? By `weir add-city`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakehouse.settings import Settings


def add_city(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="the city's name, in any script")],
    latitude: Annotated[float, typer.Argument(metavar="LAT", help="degrees north, negative in the south")],
    longitude: Annotated[float, typer.Argument(metavar="LON", help="degrees east, negative in the west")],
    timezone: Annotated[
        str, typer.Option(help="IANA name such as Europe/Madrid; decides the local hour and day in gold (default: UTC)")
    ] = "",
    key: Annotated[str, typer.Option(help="location_key (default: derived from the name)")] = "",
) -> None:
    """Watch one more city.

    Adds the city to the list of places; a running `weir up` picks it up with its next poll. Adding the same city again changes nothing.

    Examples:

      weir add-city "Hà Nội" 21.0278 105.8342 --timezone Asia/Ho_Chi_Minh

      weir add-city Quito -0.18 -78.47
    """
    from producers.clock import utc_now
    from producers.sources.open_meteo.cities import add_to_list, to_city

    settings: Settings = ctx.obj
    try:
        city = to_city(name, latitude, longitude, timezone or "UTC", key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    path, is_new = add_to_list(city, settings.locations_path, settings.home, same_zone=bool(timezone))
    if not is_new:
        print(f"{city.location_key} is in {path} already: nothing to do")
        return
    print(f"added {city.location_key} ({city.location_name}, {city.latitude}, {city.longitude}, {city.timezone}) to {path}")
    if not timezone:
        print("its local hours are in UTC; to correct that, edit `timezone` in that file, or use --timezone NAME with another --key")
    month_ago = utc_now().date() - timedelta(days=30)
    print(f"next: `weir up` polls it from now on; its history: weir produce open-meteo --locations {city.location_key} --since {month_ago}")


# Coordinates may be negative: without this, -0.18 would be parsed as an option. weir.py passes it to the command.
add_city.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]
