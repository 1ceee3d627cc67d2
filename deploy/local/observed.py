"""What do the polls of this machine and the drivers' own words say? The facts that the metrics page and `weir status` judge stages by."""

from datetime import datetime

from lakehouse.domain_names import DOMAINS
from lakehouse.errors import WeirError
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from monitoring.objectives import SourceFacts
from producers.cursor import Cursors
from producers.polls import Polls
from producers.sources.registry import SOURCES, load_source
from producers.upstream import judge_upstream, lateness
from streaming.query_states import read_states


def source_facts(settings: Settings, now: datetime) -> dict[str, SourceFacts]:
    """Return what the polls of each source have noted; a source that was never polled here is left out."""
    found = {}
    for name in SOURCES:
        known = Polls(settings.home / "state", name).read()
        if known.last_poll is None:
            continue
        source = load_source(name)
        try:
            watched = set(source.watched(settings).entities)
            cursors = [at for key, at in Cursors(settings.home / "state", name).read().items() if key in watched]
        except WeirError:  # `weir doctor` reports a list or a cursor file that cannot be read
            watched, cursors = set(known.failing), []
        found[name] = SourceFacts(
            domain=source.domain,
            is_upstream_late=judge_upstream(known.upstream_changed, now, timetable=source.timetable).state == "late",
            is_late=bool(lateness(known.last_success, known.every, now)),
            failing=len(watched & set(known.failing)),
            every_seconds=known.every.total_seconds() if known.every else None,
            upstream_changed=known.upstream_changed,
            cursor=min(cursors, default=None),
        )
    return found


def running_queries(settings: Settings) -> dict[str, bool]:
    """Return by query whether it runs and holds no source back, as its driver says; without those that have no driver.

    Raises:
        OSError: the state folder cannot be read.
    """
    folder = open_folder(settings.state_uri)
    return {one.query: one.state == "running" and not one.held for domain in DOMAINS for one in read_states(folder, domain)}
