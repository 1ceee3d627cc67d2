"""How is a cluster used, and one of this machine started? By the verbs `cluster`, `submit`, `apps`, `stop` and `logs`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table as Grid

from deploy.yarn.errors import AlreadySubmitted
from lakehouse.machine.terminal import console_for_tables
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from deploy.yarn.local_cluster import Seen

EXIT_FAILED = 1
# Verbs that `weir submit` takes beside the names of domains.
BATCH = ("backfill", "rebuild", "replay", "prove", "maintain")
# What a running micro-batch may take, and the end of Spark.
STOP_SECONDS = 120.0


def cluster(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="up|down|status", help="start it, stop it, or show its parts")],
    as_json: Annotated[bool, typer.Option("--json", help="with status: print one JSON object")] = False,
) -> None:
    """Run a Hadoop cluster on this machine, for development and tests: HDFS, YARN and Spark's history server, on the loopback.

    It lies in HOME/cluster. `up` prints the settings that make weir use it.

    Example: weir cluster up
    """
    from deploy.yarn.local_cluster import LocalCluster

    settings: Settings = ctx.obj
    here = LocalCluster(settings.home / "cluster", os.environ)
    console = Console(stderr=True)
    if action == "up":
        ports = here.start()
        console.print(f"HDFS is {ports.hdfs}; YARN has {here.node_memory()} MiB for containers. To use them:", highlight=False)
        for name, value in here.settings().items():
            print(f"export {name}={value}")
    elif action == "down":
        here.stop()
        console.print("the cluster has stopped; its data stays.")
    elif action == "status":
        _show_cluster(here.seen(), as_json, console)
    else:
        raise typer.BadParameter(f"{action!r}: expected up, down or status")


def submit(
    ctx: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="DOMAIN... | VERB ...", help=f"domains to stream, or one of {', '.join(BATCH)} with its arguments"),
    ],
    master: Annotated[str, typer.Option("--master", help="yarn, which is all there is")] = "yarn",
    deploy_mode: Annotated[
        Literal["cluster", "client"], typer.Option("--deploy-mode", help="cluster: the driver in a container; client: here, until it ends")
    ] = "cluster",
    queue: Annotated[str, typer.Option("--queue", help="YARN's queue (default: WEIR_YARN_QUEUE)", show_default=False)] = "",
    driver_cores: Annotated[int, typer.Option("--driver-cores", min=1, help="virtual cores of the driver's container")] = 2,
    executor_memory: Annotated[str, typer.Option("--executor-memory", help="heap of an executor")] = "1g",
    executor_cores: Annotated[int, typer.Option("--executor-cores", min=1, help="virtual cores of an executor")] = 1,
    keytab: Annotated[str, typer.Option("--keytab", help="file with the key of the principal (default: WEIR_KERBEROS_KEYTAB)")] = "",
    principal: Annotated[str, typer.Option("--principal", help="of Kerberos (default: WEIR_KERBEROS_PRINCIPAL)")] = "",
    each: Annotated[bool, typer.Option("--each", help="one application for each domain, instead of one for all")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="return when the application has ended, with 1 where it failed")] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="wait for the application that streams these domains; submit it where none does")
    ] = False,
    prepare: Annotated[
        Path | None, typer.Option("--prepare", metavar="FOLDER", help="submit nothing: upload the archives, write what spark-submit needs")
    ] = None,
) -> None:
    """Run streams or a batch verb as an application on YARN.

    Put the arguments of a batch verb behind `--`. The application's id and tracking page are printed.

    Examples:

      weir submit air_quality kaggle

      weir submit --wait -- backfill air_quality --since 2024-01-01 --until 2024-01-31
    """
    from deploy.yarn import submit as submitting
    from deploy.yarn.application_conf import Resources
    from deploy.yarn.manager import Manager
    from deploy.yarn.waiting import follow, running_streams, wait_for_end

    if master != "yarn":
        raise typer.BadParameter(f"{master!r}: expected yarn", param_hint="--master")
    settings: Settings = ctx.obj
    kerberos = {"kerberos_principal": principal, "kerberos_keytab": keytab}
    settings = settings.model_copy(update={name: value for name, value in kerberos.items() if value})
    resources = Resources(queue or settings.yarn_queue, driver_cores, executor_memory, executor_cores)
    wanted = submitting.submission(arguments, BATCH, resources)
    if prepare is not None:
        submitting.prepare(settings, wanted, prepare)
        return
    running = running_streams(settings, wanted.domains)
    if attach:
        follow(settings, wanted, running)
        return
    for domain, application in running.items():
        raise AlreadySubmitted(domain, application)
    if deploy_mode == "client":
        submitting.run_here(settings, wanted)
    several = [submitting.submission([one], BATCH, resources) for one in wanted.domains] if each and wanted.domains else [wanted]
    applications = []
    for one in several:
        applications.append(submitting.submit(settings, one))
        print(f"{applications[-1]}  {Manager(settings).app(applications[-1]).url}", flush=True)
    if wait and False in [wait_for_end(settings, application) for application in applications]:
        raise typer.Exit(EXIT_FAILED)


def apps(
    ctx: typer.Context,
    with_ended: Annotated[bool, typer.Option("--all", help="also those that have ended")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list, with instants in ISO 8601 UTC")] = False,
) -> None:
    """List weir's applications on YARN, the newest first.

    Example: weir apps --all
    """
    from deploy.yarn.manager import Manager

    found = Manager(ctx.obj).apps(with_ended)
    if as_json:
        print(json.dumps([asdict(one) | {"started_ts": one.started_ts.isoformat()} for one in found], indent=2))
        return
    if not found:
        print("No application of weir runs." if not with_ended else "YARN knows no application of weir.")
        return
    grid = Grid("application", "name", "state", "queue", "since (UTC)", "MiB", "page", box=None, pad_edge=False)
    for one in found:
        state = (one.result if one.has_ended else one.state).lower()
        grid.add_row(one.id, one.name, state, one.queue, f"{one.started_ts:%Y-%m-%d %H:%M}", str(one.memory), one.url)
    console_for_tables().print(grid)


def stop(
    ctx: typer.Context,
    application: Annotated[str, typer.Argument(metavar="APP", help="id of the application, see `weir apps`")],
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="how long to wait before it is killed")] = STOP_SECONDS,
) -> None:
    """End an application on YARN: each query after its running micro-batch. One that has not ended in time is killed.

    Example: weir stop application_1700000000000_0001
    """
    from deploy.yarn.manager import Manager
    from lakehouse.storage.folders import open_folder
    from streaming.stop_request import ask_to_stop, forget_stop

    settings: Settings = ctx.obj
    manager = Manager(settings)
    before = manager.app(application)
    if before.has_ended:
        print(f"{application} has ended already: {before.result.lower()}.")
        return
    state = open_folder(settings.state_uri)
    ask_to_stop(state, application)
    for _ in manager.wait(application, seconds):
        pass
    ended = manager.app(application)
    if not ended.has_ended:
        manager.kill(application)
        for _ in manager.wait(application, STOP_SECONDS):
            pass
        print(f"{application} did not end within {seconds:g} s and was killed; the next start repeats its last micro-batch.")
    else:
        print(f"{application} has ended: {ended.result.lower()}.")
    forget_stop(state, application)


def logs(
    ctx: typer.Context,
    application: Annotated[str, typer.Argument(metavar="APP", help="id of the application, see `weir apps`")],
    follow: Annotated[bool, typer.Option("--follow", help="go on printing until the application ends")] = False,
) -> None:
    """Print the driver's log of an application on YARN, whether it runs or has ended.

    Example: weir logs application_1700000000000_0001 --follow
    """
    from deploy.yarn.container_logs import print_logs

    print_logs(ctx.obj, application, follow)


def _show_cluster(parts: "list[Seen]", as_json: bool, console: Console) -> None:
    if as_json:
        facts = [
            {"part": one.name, "pid": one.process.pid if one.process else None, "runs": one.runs, "answers": one.answers, "page": one.page}
            for one in parts
        ]
        print(json.dumps(facts, indent=2))
    else:
        grid = Grid("part", "state", "process", "page", box=None, pad_edge=False)
        for one in parts:
            state = "up" if one.answers else "starting" if one.runs else "down"
            grid.add_row(one.name, state, str(one.process.pid) if one.process and one.runs else "", one.page)
        console.print(grid)
    if not all(one.answers for one in parts):
        raise typer.Exit(EXIT_FAILED)
