"""Which sources exist? A new one needs a folder in `producers/sources/` and a line in `SOURCES`, or in `DUMPS` if it is not polled.

One that is polled and gives dumps as well has a line in each, with a description for either.
"""

import importlib
from collections.abc import Callable
from typing import Any

from lakehouse.settings import Settings
from producers.dumps.description import DumpSource
from producers.history import History
from producers.source import Source
from producers.stopping import Stop

# {name on the command line: module:name of its `Source`}, imported on use. The process of the first source is the part `producer`.
SOURCES: dict[str, str] = {
    "open-meteo": "producers.sources.open_meteo.source:OPEN_METEO",
    "kaggle": "producers.sources.kaggle.source:KAGGLE_LIST",
}

# The same for each `DumpSource`: it is published from a dump when an operator says so; `weir up` starts no process for that.
DUMPS: dict[str, str] = {
    "kaggle": "producers.sources.kaggle.source:KAGGLE",
}


def load_source(name: str) -> Source[Any]:
    """Import a source by its name on the command line; raises KeyError when there is none."""
    module, attribute = SOURCES[name].split(":")
    source = getattr(importlib.import_module(module), attribute)
    assert isinstance(source, Source), f"{SOURCES[name]} is not a Source"
    assert source.name == name, f"{SOURCES[name]} has the name {source.name!r}, but is registered as {name!r}"
    return source


def load_dumps(name: str) -> DumpSource:
    """Import a source that is published from dumps by its name on the command line; raises KeyError when there is none."""
    module, attribute = DUMPS[name].split(":")
    source = getattr(importlib.import_module(module), attribute)
    assert isinstance(source, DumpSource), f"{DUMPS[name]} is not a DumpSource"
    assert source.name == name, f"{DUMPS[name]} has the name {source.name!r}, but is registered as {name!r}"
    return source


def dumps_of(domain: str) -> list[str]:
    """Return the names of the sources that publish dumps for a domain."""
    return [name for name in DUMPS if load_dumps(name).domain == domain]


def histories() -> dict[str, Callable[[Settings, Stop], History]]:
    """Return by domain the function that opens its source's past records; a domain without one is absent."""
    return {source.domain: source.history for source in map(load_source, SOURCES) if source.history is not None}
