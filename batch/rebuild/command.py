"""What does `weir rebuild` do, from its options to its exit code?"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import typer
from pyspark.sql import SparkSession

from batch.compare import Comparison
from batch.low_priority import lower_priority
from batch.rebuild.in_place import rebuild_dimensions, rebuild_in_place
from batch.rebuild.on_branches import NotPublished, Rebuild, rebuild_lease
from batch.report import comparison_json, print_rebuilt
from lakehouse import failpoints
from lakehouse.days import Days
from lakehouse.domain import ByTime, Domain
from lakehouse.locks.lease import held_lease
from lakehouse.machine.logs import configure_logs
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import jvm_pid, open_spark
from lakehouse.tables.catalog import NAME
from lakehouse.tables.create import ensure_tables
from lakehouse.tables.references import settle_references
from lakehouse.write.dimensions import write_dimensions

LAYERS = ("silver", "gold")
ALL, FACTS, DIMENSIONS = "all", "facts", "dims"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of the command as typed, except for `days`, which are parsed."""

    domain: str
    layer: str
    tables: str
    days: Days
    in_place: bool
    dry_run: bool
    yes: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The gold tables to rebuild, by name with `lh.`."""

    facts: frozenset[str]
    dimensions: frozenset[str]


def run_rebuild(settings: Settings, wanted: Wanted) -> None:
    """Run the command.

    Raises:
        NoGold: there are no rows yet.
        NotPublished: the operator declined, or another machine wrote meanwhile.
        LeaseHeld: the domain is being rebuilt already.
    """
    configure_logs(settings.log_format, settings.log_level)
    lower_priority()
    domain = build_domain(wanted.domain, settings)
    # Dimensions have no days, and are not computed from silver.
    chosen = choose(domain, wanted.tables or (FACTS if wanted.days or wanted.layer == "silver" else ALL))
    _check(domain, wanted, chosen)
    spark = open_spark(settings, f"weir rebuild {domain.name}", is_batch=True)
    try:
        failpoints.arm(settings.failpoint, [jvm_pid(spark)])
        compared: list[Comparison] = []
        with held_lease(settings, rebuild_lease(domain), lambda _: None) as check:
            # Adds new columns; gold's edition is not checked, since a rebuild may change it.
            ensure_tables(spark, replace(domain, edition={}))
            if wanted.in_place:
                assert wanted.days is not None  # see `_check`
                rebuild_in_place(settings, domain, spark, wanted.layer == "silver", wanted.days, lambda day: _say(wanted, f"done to {day}"))
            elif chosen.facts:
                with Rebuild(settings, domain, spark, wanted.layer == "silver", wanted.days, chosen.facts) as rebuild:
                    compared += _beside(rebuild, wanted, check)
            if chosen.dimensions:
                compared += _dimensions(settings, domain, spark, chosen, wanted)
            if not wanted.dry_run:
                write_dimensions(spark, domain)
                settle_references(spark, settings, domain)
    finally:
        spark.stop()
    if wanted.as_json:
        differences = [comparison_json(one) for one in compared]
        print(
            json.dumps({"domain": domain.name, "layer": wanted.layer, "published": not wanted.dry_run, "compared": differences}, indent=1)
        )


def choose(domain: Domain, tables: str) -> Chosen:
    """Parse the option with gold tables: all, facts, dims, or names separated by commas."""
    facts = frozenset(one.table.name for one in domain.derived)
    dimensions = frozenset(table.name for table, _ in domain.dimensions)
    if tables in (ALL, FACTS, DIMENSIONS):
        return Chosen(facts if tables != DIMENSIONS else frozenset(), dimensions if tables != FACTS else frozenset())
    names = {f"{NAME}.gold.{part.strip().removeprefix(f'{NAME}.').removeprefix('gold.')}" for part in tables.split(",") if part.strip()}
    if unknown := names - facts - dimensions:
        known = ", ".join(sorted(name.rpartition(".")[2] for name in facts | dimensions))
        raise typer.BadParameter(f"no gold table of {domain.name}: {', '.join(sorted(unknown))}; there are {known}", param_hint="--tables")
    return Chosen(facts & names, dimensions & names)


def _check(domain: Domain, wanted: Wanted, chosen: Chosen) -> None:
    is_silver = wanted.layer == "silver"
    facts = frozenset(one.table.name for one in domain.derived)
    if wanted.layer not in LAYERS:
        raise typer.BadParameter(f"{wanted.layer!r}, expected {' or '.join(LAYERS)}", param_hint="--layer")
    if (is_silver or wanted.in_place) and (chosen.facts != facts or chosen.dimensions):
        raise typer.BadParameter(
            "cannot be combined with --layer silver or --in-place, which both rebuild every fact table", param_hint="--tables"
        )
    by_key = [one.silver.name for one in domain.sources if not isinstance(one.kind, ByTime)]
    if wanted.days and by_key:
        raise typer.BadParameter(f"{', '.join(by_key)} of {domain.name} is not kept by event time: rebuild all of it, without --since")
    if wanted.in_place and (wanted.days is None or wanted.dry_run):
        raise typer.BadParameter("needs --since and cannot be combined with --dry-run", param_hint="--in-place")
    if not (wanted.in_place or wanted.dry_run or wanted.yes or sys.stdin.isatty()):
        raise typer.BadParameter("no terminal to ask for confirmation: use --yes to publish the result, or --dry-run to discard it")


def _beside(rebuild: Rebuild, wanted: Wanted, check: Callable[[], None]) -> list[Comparison]:
    rebuild.build()
    compared = rebuild.compare()
    if not wanted.as_json:
        print_rebuilt(compared)
    if wanted.dry_run:
        _say(wanted, "not published: --dry-run")
        return compared
    if not wanted.yes and not typer.confirm("Publish it?", err=True):
        raise NotPublished(wanted.domain, "the answer was no")
    rebuild.publish(check)
    _say(wanted, f"published: {wanted.layer} of {wanted.domain} is computed by the current rules")
    return compared


def _dimensions(settings: Settings, domain: Domain, spark: SparkSession, chosen: Chosen, wanted: Wanted) -> list[Comparison]:
    compared = rebuild_dimensions(settings, domain, spark, chosen.dimensions, not wanted.dry_run)
    if not wanted.as_json:
        print_rebuilt(compared)
    return compared


def _say(wanted: Wanted, text: str) -> None:
    if not wanted.as_json:
        print(text, flush=True)
