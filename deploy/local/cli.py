"""How is the stack on this machine started, stopped and inspected? By the verbs `up`, `down`, `status`, `doctor` and `demo`."""

import json
from typing import Annotated

import typer

from lakehouse.settings import Settings

EXIT_FAILED, EXIT_TRY_AGAIN = 1, 75


def up(
    ctx: typer.Context,
    services_only: Annotated[
        bool, typer.Option("--services-only", help="start only Kafka and the metrics page, without producer and stream")
    ] = False,
    with_prometheus: Annotated[
        bool, typer.Option("--with-prometheus", help="also Prometheus and Alertmanager, with weir's rules, on the loopback")
    ] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay in this terminal; Ctrl-C stops everything")] = False,
) -> None:
    """Start Kafka, the stream, the producer and the metrics page, and keep them running.

    A later `weir up` starts the parts that `--services-only` left out. If everything runs already, it changes nothing.

    Example: weir up --services-only
    """
    from deploy.local.stack import bring_up

    settings: Settings = ctx.obj
    bring_up(settings, services_only=services_only, foreground=foreground, with_prometheus=with_prometheus)


def down(ctx: typer.Context) -> None:
    """Stop everything that runs for this WEIR_HOME, the producer first and Kafka last; safe to repeat.

    Example: weir down
    """
    from deploy.local.stack import bring_down

    settings: Settings = ctx.obj
    bring_down(settings)


def status(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object, with instants in ISO 8601 UTC")] = False,
) -> None:
    """Show every part, query, lag, table, reject count and path. Works even if nothing runs.

    Example: weir status --json
    """
    from deploy.local.status import collect, show

    settings: Settings = ctx.obj
    facts = collect(settings)
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show(facts)


def doctor(
    ctx: typer.Context,
    files: Annotated[bool, typer.Option("--files", help="also open every data file and compare it with its manifest entry")] = False,
    master: Annotated[
        str, typer.Option("--master", help="yarn: check the cluster too (default: where WEIR_SPARK_MASTER is yarn)", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of objects with check, ok, says and temporary")] = False,
) -> None:
    """Check this machine and its home, from Java to the clock, and the cluster; print one sentence per check.

    Exits with 1 if something is wrong, with 75 if all that is wrong may end by itself, such as HDFS in safe mode.

    Example: weir doctor --files
    """
    from deploy.local.doctor import examine, show

    settings: Settings = ctx.obj
    if master:
        settings = settings.model_copy(update={"spark_master": master})
    findings = examine(settings, files=files)
    if as_json:
        facts = [{"check": one.check, "ok": one.ok, "says": one.says, "temporary": one.is_temporary} for one in findings]
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show(findings)
    wrong = [one for one in findings if not one.ok]
    if wrong:
        raise typer.Exit(EXIT_TRY_AGAIN if all(one.is_temporary for one in wrong) else EXIT_FAILED)


def demo(ctx: typer.Context) -> None:
    """Run recorded answers of the API through to gold, with a crash and a revision. Takes a few minutes and leaves nothing running.

    Example: weir demo
    """
    from deploy.local.demo.demo import run_demo

    run_demo(ctx.obj)
