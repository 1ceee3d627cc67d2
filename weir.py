"""What can I type? The command `weir`: joins each folder's cli.py, imported only when its verb is used."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from deploy.local.agent.run_files import running_kafka
from lakehouse.errors import Retryable, WeirError
from lakehouse.machine.environment import adopt_environment
from lakehouse.machine.fitness import check_home, given_home, raise_open_files, sentence_of
from lakehouse.machine.proxies import leave_out_this_machine
from lakehouse.machine.terminal import speak_plainly
from lakehouse.settings import load_settings

# verb -> module:function. A module here imports Spark, Kafka or pyarrow inside its functions only, so `weir --help` is quick.
VERBS = {
    "up": "deploy.local.cli:up",
    "down": "deploy.local.cli:down",
    "status": "deploy.local.cli:status",
    "doctor": "deploy.local.cli:doctor",
    "demo": "deploy.local.cli:demo",
    "add-city": "producers.sources.open_meteo.cli:add_city",
    "produce": "producers.cli:produce",
    "stream": "streaming.cli:stream",
    "resume": "streaming.cli:resume",
    "backfill": "batch.cli:backfill",
    "rebuild": "batch.cli:rebuild",
    "replay": "batch.cli:replay",
    "prove": "batch.cli:prove",
    "why": "batch.cli:why",
    "check": "batch.cli:check",
    "maintain": "batch.cli:maintain",
    "query": "lakehouse.cli:query",
    "export": "lakehouse.cli:export",
    "connect": "lakehouse.cli:connect",
    "new": "deploy.new.cli:new",
    "cluster": "deploy.yarn.cli:cluster",
    "submit": "deploy.yarn.cli:submit",
    "apps": "deploy.yarn.cli:apps",
    "stop": "deploy.yarn.cli:stop",
    "logs": "deploy.yarn.cli:logs",
}
# They write in the home: without write access they say so before anything else. The demo may choose another home, and looks itself.
WRITERS = frozenset({"up", "produce", "stream", "resume", "backfill", "rebuild", "maintain", "cluster", "submit"})
EXIT_FAILED, EXIT_TRY_AGAIN = 1, 75


def _without_types_of_flags(params: Sequence[object]) -> None:
    """Leave the type of a flag out of the help: typer's panel shows `<bool>` after each, though none takes a value."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""


class Verb(TyperCommand):
    """A verb, whose help shows types of values only."""

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401 - of typer's own click
        """Print the help."""
        _without_types_of_flags(self.get_params(ctx))
        super().format_help(ctx, formatter)


class LazyVerbs(TyperGroup):
    """A group of commands whose modules are imported when a verb is asked for."""

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]  # noqa: ANN401
        """Print the help."""
        _without_types_of_flags(self.get_params(ctx))
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own copy of click
        """Name the verbs in the order of a newcomer's day."""
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        """Import the verb's module and make its function a command."""
        if cmd_name not in VERBS:
            return None
        module, function = VERBS[cmd_name].split(":")
        one = typer.Typer(add_completion=False)
        verb = getattr(importlib.import_module(module), function)
        one.command(cmd_name, cls=Verb, context_settings=getattr(verb, "context_settings", None))(verb)
        return cast(TyperCommand, typer.main.get_command(one))


app = typer.Typer(cls=LazyVerbs, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback()
def weir(ctx: typer.Context) -> None:
    """A streaming-first lakehouse: from the API through Kafka into Iceberg in seconds, and provably so."""
    if not {"--help", "-h"} & set(sys.argv[1:]):
        home = given_home(os.environ)
        settings = load_settings(dict(os.environ))
        adopt_environment(settings.hadoop_conf_dir)
        if ctx.invoked_subcommand in WRITERS and "--dry-run" not in sys.argv:
            check_home(settings.home, home)
        if not settings.kafka_bootstrap and (embedded := running_kafka(settings)):
            settings = settings.model_copy(update={"kafka_bootstrap": embedded})
        ctx.obj = settings


def main() -> None:
    """Run the command; a known error is one clear message on stderr and an exit code that says whether to try again."""
    speak_plainly()
    raise_open_files()
    leave_out_this_machine(os.environ)
    try:
        app(prog_name="weir")  # not weir.py: shells complete the name as it is typed
    except WeirError as error:
        print(f"weir: {error}", file=sys.stderr)
        # The cause stays with the exit: in a container it is what YARN is told.
        raise SystemExit(EXIT_TRY_AGAIN if isinstance(error, Retryable) else EXIT_FAILED) from error
    except OSError as error:
        if not (sentence := sentence_of(error)):
            raise
        print(f"weir: {sentence}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
