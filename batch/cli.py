"""How is the past brought in, and how are tables proved, explained, checked and kept small? The verbs of batch work."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse import completion
from lakehouse.days import days_of, factor_of

if TYPE_CHECKING:
    from lakehouse.domain import Domain
    from lakehouse.settings import Settings

_SINCE = typer.Option(help="first UTC day, YYYY-MM-DD")
_UNTIL = typer.Option(help="last UTC day, itself included")


def prove(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain to prove, such as air_quality (default: all)", autocompletion=completion.domains)
    ] = "",
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    as_json: Annotated[bool, typer.Option("--json", help="an object per domain")] = False,
) -> None:
    """Compute gold again in two ways, and compare it key by key with what the stream made.

    Nothing has to run, and a stream may: what it has not applied yet is left out. Exits with 1 when anything differs; the
    result is kept in lh.ops.proofs.

    Example: weir prove air_quality --since 2025-01-01 --until 2025-01-31
    """
    from batch.lineage import sources_of
    from batch.low_priority import lower_priority
    from batch.prove.prove import prove as prove_domain
    from batch.report import print_proofs
    from lakehouse.machine.logs import configure_logs
    from lakehouse.spark import open_spark

    settings: Settings = ctx.obj
    configure_logs(settings.log_format, settings.log_level)
    lower_priority()
    days = days_of(since, until)
    chosen = _domains(settings, domain)
    spark = open_spark(settings, "weir prove")
    try:
        proofs = [prove_domain(settings, one, spark, days) for one in chosen]
    finally:
        spark.stop()
    sources: dict[int, Any] = {}
    for one, proof in zip(chosen, proofs, strict=True):
        sources |= sources_of(settings, one, proof)
    print_proofs(proofs, sources, as_json)
    if not all(proof.is_equal for proof in proofs):
        raise typer.Exit(1)


def why(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help="table of silver or gold, such as gold.fact_city_daily", autocompletion=completion.tables)],
    conditions: Annotated[list[str], typer.Argument(metavar="COL=VALUE", help="columns of the row, best those of its key")],
    as_json: Annotated[bool, typer.Option("--json", help="a list of levels, each with its rows")] = False,
) -> None:
    """Show what a row is made of: silver's rows, bronze's, topic, partition and offset, and the messages as they arrived.

    Instants are UTC.

    Example: weir why gold.fact_city_daily location_key=hanoi date_utc=2025-09-20
    """
    from batch.lineage import explain
    from batch.report import print_trace

    settings: Settings = ctx.obj
    pairs = dict(_pair(condition) for condition in conditions)
    print_trace(explain(settings, table, pairs), as_json)


def check(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain to check, such as air_quality (default: all)", autocompletion=completion.domains)
    ] = "",
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    as_json: Annotated[bool, typer.Option("--json", help="a list of checks")] = False,
) -> None:
    """Check the tables: totals, keys, ranges, the grid of places and hours, date keys, and what else the domain says must hold.

    Exits with 1 when a check fails. With a range every place must fill it; without, from its first hour to its last.

    Example: weir check air_quality --since 2025-01-01 --until 2025-01-31
    """
    from batch.check import check as check_domain
    from batch.report import print_checks

    settings: Settings = ctx.obj
    days = days_of(since, until)
    checked = [found for one in _domains(settings, domain) for found in check_domain(settings, one, days)]
    print_checks(checked, as_json)
    if not all(one.is_good for one in checked):
        raise typer.Exit(1)


def backfill(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="domain to fill, such as air_quality", autocompletion=completion.domains)],
    since: Annotated[str, typer.Option(help="first UTC day, YYYY-MM-DD; or latest: from each entity's newest row on")] = "",
    until: Annotated[str, typer.Option(help="last UTC day, itself included (default: today)")] = "",
    chunk: Annotated[str, typer.Option(help="how long a chunk is at most: month, week or day")] = "month",
    locations: Annotated[str, typer.Option(help="only these entities, separated by commas (default: all that are watched)")] = "",
    override: Annotated[bool, typer.Option("--override", help="write rows again whose values silver has already")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and end")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the newest backfill that was cut off")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="only what failed in the newest backfill that has a failed chunk")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout")] = False,
) -> None:
    """Fetch the past from a domain's source into bronze and silver, chunk by chunk, and make gold of it at the end.

    May run beside the live stream. Ctrl-C ends it after the running chunk; --resume goes on, also after a crash, and doubles
    nothing. A chunk that fails does not stop the others: the exit code is 1 then, and --retry-failed does it again. What silver
    has with the same values is left out, unless --override.

    Examples:

      weir backfill air_quality --since 2024-01-01 --until 2024-12-31 --dry-run

      weir backfill air_quality --since latest

      weir backfill air_quality --resume
    """
    from batch.backfill.command import Wanted, run_backfill

    wanted = Wanted(domain, since, until, chunk, locations, override, dry_run, resume, retry_failed, as_json)
    if not run_backfill(ctx.obj, wanted):
        raise typer.Exit(1)


def rebuild(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="domain to compute again, such as air_quality", autocompletion=completion.domains)],
    layer: Annotated[str, typer.Option(help="silver: from bronze, and gold of it; gold: from silver as it is")],
    tables: Annotated[str, typer.Option(help="gold tables: all, facts, dims, or names separated by commas (default: what belongs)")] = "",
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="write days into the tables themselves, in turns with the stream")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build and compare, then throw it away")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="publish without asking")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout; needs --yes or --dry-run")] = False,
) -> None:
    """Make silver or gold anew after a rule, a transform or a setting such as aqi_rule has changed.

    It is built beside the tables and compared with them: rows, keys, which columns change how often, the first differences. Then
    you are asked, and it takes their place in one commit a table. The stream goes on meanwhile; nothing that it writes is lost.

    Examples:

      weir rebuild air_quality --layer gold --dry-run

      weir rebuild air_quality --layer silver --since 2025-01-01 --until 2025-01-31 --in-place
    """
    from batch.rebuild.command import Wanted, run_rebuild

    run_rebuild(ctx.obj, Wanted(domain, layer, tables, days_of(since, until), in_place, dry_run, yes, as_json))


def replay(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain whose messages are published again, such as air_quality", autocompletion=completion.domains)
    ],
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    speed: Annotated[str, typer.Option(help="max, or with the pauses between arrivals at this multiple of time, such as 60x")] = "max",
) -> None:
    """Publish what bronze holds through Kafka again, each message once; silver and gold end as they were, bronze gains a row for each.

    The range is of event time; without one all messages go, those that no rule accepted too.

    Example: weir replay air_quality --since 2025-01-01 --until 2025-01-31
    """
    from batch.replay.command import run_replay

    run_replay(ctx.obj, domain, days_of(since, until), factor_of(speed))


def maintain(
    ctx: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="such as gold.fact_city_daily (default: all)", autocompletion=completion.tables),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done and gained, and change nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="a list of tables, each with its figures before and after")] = False,
) -> None:
    """Join small files, expire old snapshots, make daily tags, remove what belongs to nothing; and drop what the settings let go.

    May run beside the live stream; `weir up` does it every WEIR_MAINTAIN_HOURS. What the stream has not read, an unfinished backfill
    needs or a tag names stays. A table that fails does not stop the others: the exit code is 1 then.

    Examples:

      weir maintain --dry-run

      weir maintain gold.fact_city_daily
    """
    from batch.maintain.command import Wanted, run_maintain

    if not run_maintain(ctx.obj, Wanted(tables or (), dry_run, as_json)):
        raise typer.Exit(1)


def _domains(settings: "Settings", name: str) -> "list[Domain]":
    from lakehouse.domain_names import DOMAINS
    from lakehouse.registry import build_domain

    return [build_domain(one, settings) for one in ([name] if name else DOMAINS)]


def _pair(text: str) -> tuple[str, str]:
    column, is_pair, value = text.partition("=")
    if not is_pair or not column:
        raise typer.BadParameter(f"{text!r}, expected COLUMN=VALUE", param_hint="COL=VALUE")
    return column, value
