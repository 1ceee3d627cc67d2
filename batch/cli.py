"""How are tables backfilled, proved, explained, checked, rebuilt and maintained from the command line? By the verbs of batch work."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lakehouse import completion
from lakehouse.days import days_of, factor_of
from lakehouse.machine.yarn_check import NoYarnCheck, without_yarn_check

if TYPE_CHECKING:
    from lakehouse.domain import Domain
    from lakehouse.settings import Settings

_SINCE = typer.Option(help="first UTC day, YYYY-MM-DD")
_UNTIL = typer.Option(help="last UTC day, inclusive")


def prove(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain to prove, such as air_quality (default: all)", autocompletion=completion.domains)
    ] = "",
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    witness: Annotated[
        Literal["both", "spark", "duckdb"],
        typer.Option(help="what recomputes gold: a batch pass of Spark, the domain's own SQL in DuckDB (much faster), or both"),
    ] = "both",
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list with an object per domain")] = False,
    no_yarn_check: NoYarnCheck = False,
) -> None:
    """Recompute gold in two ways, and compare it key by key with the tables that the stream wrote.

    Needs no running part. A stream may run: messages that it has not applied yet are left out. Exits with 1 if there is a difference; the
    result is stored in lh.ops.proofs.

    Example: weir prove air_quality --since 2025-01-01 --until 2025-01-31
    """
    from batch.lineage import sources_of
    from batch.low_priority import lower_priority
    from batch.prove.proofs_table import WITNESSES, is_there
    from batch.prove.prove import prove as prove_domain
    from batch.report import print_proofs
    from lakehouse.machine.logs import configure_logs
    from lakehouse.spark import open_spark
    from lakehouse.tables.catalog import cannot_be_written
    from monitoring.batch_metrics import reported

    settings: Settings = without_yarn_check(ctx.obj, no_yarn_check)
    configure_logs(settings.log_format, settings.log_level)
    lower_priority()
    days = days_of(since, until)
    chosen = _domains(settings, domain)
    ways = WITNESSES[witness]
    # On a cluster Spark starts in an application alone: then the result of DuckDB is printed, and may not be stored.
    is_kept_by_spark = not settings.is_on_yarn and not cannot_be_written(settings) and not is_there(settings)
    spark = open_spark(settings, "weir prove", is_batch=True) if "batch" in ways or is_kept_by_spark else None
    with reported(settings, "prove", domain):
        try:
            proofs = [prove_domain(settings, one, spark, days, ways) for one in chosen]
        finally:
            if spark is not None:
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
    conditions: Annotated[list[str], typer.Argument(metavar="COL=VALUE", help="columns of the row, preferably its key")],
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of levels, each with its rows")] = False,
) -> None:
    """Show from which rows a row was computed: silver's, bronze's, with topic, partition and offset, and the messages as they arrived.

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
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of checks")] = False,
) -> None:
    """Check the tables: totals, keys, ranges, the grid of places and hours, date keys, and the domain's own rules.

    Alerts follow: is the newest run unusually large or small, are there unusually many duplicates, is a layer fresh? A raised alert is a
    warning. Exits with 1 if a check fails. With a range, every place must have all of its hours; without one, all hours from its first to
    its last.

    Example: weir check air_quality --since 2025-01-01 --until 2025-01-31
    """
    from datetime import UTC, datetime

    from batch.check import check as check_domain
    from batch.report import print_checks
    from monitoring.alerts import judge
    from monitoring.batch_metrics import reported

    settings: Settings = ctx.obj
    days = days_of(since, until)
    domains = _domains(settings, domain)
    with reported(settings, "check", domain):
        checked = [result for one in domains for result in check_domain(settings, one, days)]
        print_checks(checked, [judge(settings, one, datetime.now(UTC)) for one in domains], as_json)
        if not all(one.is_good for one in checked):
            raise typer.Exit(1)


def backfill(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="domain to fill, such as air_quality", autocompletion=completion.domains)],
    since: Annotated[str, typer.Option(help="first UTC day, YYYY-MM-DD; or latest: from each entity's newest row on")] = "",
    until: Annotated[str, typer.Option(help="last UTC day, inclusive (default: today)")] = "",
    chunk: Annotated[str, typer.Option(help="maximum length of a chunk: month, week or day")] = "month",
    locations: Annotated[str, typer.Option(help="only these entities, separated by commas (default: all that are watched)")] = "",
    override: Annotated[bool, typer.Option("--override", help="also write rows whose values silver has already")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and exit")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the newest interrupted backfill")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="retry only the failed chunks and entities of the newest backfill that has some")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as one JSON object")] = False,
    no_yarn_check: NoYarnCheck = False,
) -> None:
    """Fetch past records from a domain's source into bronze and silver, chunk by chunk, and compute gold at the end.

    May run beside the live stream. Ctrl-C stops it after the current chunk; --resume continues, also after a crash, without duplicates. A
    chunk that fails does not stop the others: the exit code is 1 then, and --retry-failed tries it again. Rows that silver has with the
    same values are left out, unless --override is given.

    Examples:

      weir backfill air_quality --since 2024-01-01 --until 2024-12-31 --dry-run

      weir backfill air_quality --since latest

      weir backfill air_quality --resume
    """
    from batch.backfill.command import Wanted, run_backfill
    from monitoring.batch_metrics import reported

    wanted = Wanted(domain, since, until, chunk, locations, override, dry_run, resume, retry_failed, as_json)
    with reported(ctx.obj, "backfill", domain):
        if not run_backfill(without_yarn_check(ctx.obj, no_yarn_check), wanted):
            raise typer.Exit(1)


def rebuild(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="domain to rebuild, such as air_quality", autocompletion=completion.domains)],
    layer: Annotated[str, typer.Option(help="silver: silver from bronze, then gold; gold: gold from silver as it is")],
    tables: Annotated[str, typer.Option(help="gold tables: all, facts, dims, or names separated by commas (default: facts or all)")] = "",
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    in_place: Annotated[bool, typer.Option("--in-place", help="write days directly into the tables, alternating with the stream")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="build and compare, then discard the result")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="publish without asking")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as one JSON object; needs --yes or --dry-run")] = False,
    no_yarn_check: NoYarnCheck = False,
) -> None:
    """Rebuild silver or gold after a rule, a transform or a setting such as aqi_rule has changed.

    The rebuild runs beside the tables and is compared with them: rows, keys, how often each column changes, the first differences. After
    you confirm, it replaces them with one commit per table. The stream continues meanwhile; nothing that it writes is lost.

    Examples:

      weir rebuild air_quality --layer gold --dry-run

      weir rebuild air_quality --layer silver --since 2025-01-01 --until 2025-01-31 --in-place
    """
    from batch.rebuild.command import Wanted, run_rebuild
    from monitoring.batch_metrics import reported

    wanted = Wanted(domain, layer, tables, days_of(since, until), in_place, dry_run, yes, as_json)
    with reported(ctx.obj, "rebuild", domain):
        run_rebuild(without_yarn_check(ctx.obj, no_yarn_check), wanted)


def replay(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain whose messages are published again, such as air_quality", autocompletion=completion.domains)
    ],
    since: Annotated[str, _SINCE] = "",
    until: Annotated[str, _UNTIL] = "",
    speed: Annotated[str, typer.Option(help="max, or with the original pauses at a multiple of real time: 1x, 60x")] = "max",
) -> None:
    """Publish bronze's messages to Kafka again, each once. Silver and gold end as they were; bronze gains a row per message.

    The range is of event time. Without one all messages are published, including rejected ones.

    Example: weir replay air_quality --since 2025-01-01 --until 2025-01-31
    """
    from batch.replay.command import run_replay
    from monitoring.batch_metrics import reported

    with reported(ctx.obj, "replay", domain):
        run_replay(ctx.obj, domain, days_of(since, until), factor_of(speed))


def maintain(
    ctx: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="such as gold.fact_city_daily (default: all)", autocompletion=completion.tables),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="report the work and its expected gain without changing anything")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of tables, each with its figures before and after")] = False,
    no_yarn_check: NoYarnCheck = False,
) -> None:
    """Compact small files, expire old snapshots, create daily tags, remove orphan files, and apply the settings' retention.

    May run beside the live stream; `weir up` runs it every WEIR_MAINTAIN_HOURS. Keeps data that the stream has not read, that an unfinished
    backfill needs or that a tag names. A table that fails does not stop the others: the exit code is 1 then.

    Examples:

      weir maintain --dry-run

      weir maintain gold.fact_city_daily
    """
    from batch.maintain.command import Wanted, run_maintain
    from monitoring.batch_metrics import reported

    with reported(ctx.obj, "maintain"):
        if not run_maintain(without_yarn_check(ctx.obj, no_yarn_check), Wanted(tables or (), dry_run, as_json)):
            raise typer.Exit(1)


def _domains(settings: "Settings", name: str) -> "list[Domain]":
    from batch.filled_domains import filled_domains
    from lakehouse.domain_names import DOMAINS
    from lakehouse.registry import build_domain

    return [build_domain(name, settings)] if name else filled_domains(settings, [build_domain(one, settings) for one in DOMAINS])


def _pair(text: str) -> tuple[str, str]:
    column, is_pair, value = text.partition("=")
    if not is_pair or not column:
        raise typer.BadParameter(f"{text!r}, expected COLUMN=VALUE", param_hint="COL=VALUE")
    return column, value
