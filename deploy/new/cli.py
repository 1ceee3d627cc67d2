"""How does a domain or a source of one's own begin? The verb `new`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lakehouse import completion

ROOT = Path(__file__).resolve().parents[2]


def new(
    kind: Annotated[Literal["domain", "source"], typer.Argument(help="what to begin")],
    name: Annotated[str, typer.Argument(help="its name, such as river_level")],
    domain: Annotated[
        str,
        typer.Option(help="of a source: the domain that its records go to", autocompletion=completion.domains, show_default=False),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the files and write nothing")] = False,
) -> None:
    """Write the files that a new domain or source begins with; `make check` passes with them at once. Needs a checkout.

    A domain is its contract, rules, transforms, tables and the SQL of its proof, with a case worked out by hand and the test that stream
    and batch agree. A source is a client that polls a JSON API over HTTP. Nothing that is there is changed but the registry, by one line.

    Examples:

      weir new domain river_level --dry-run

      weir new source river_gauge --domain river_level
    """
    from deploy.new.domain_files import plan_domain
    from deploy.new.plan import check_checkout
    from deploy.new.source_files import plan_source

    if (kind == "source") != bool(domain):
        raise typer.BadParameter("a source needs --domain" if kind == "source" else "--domain is for a source")
    check_checkout(ROOT)
    plan = plan_domain(ROOT, name) if kind == "domain" else plan_source(ROOT, name, domain)
    if not dry_run:
        plan.write()
    for path in plan.files:
        print(path)
    print(f"{plan.registry}: {plan.line.strip()}")
    if not dry_run:
        print("\n" + (_AFTER_DOMAIN if kind == "domain" else _AFTER_SOURCE).format(name=name, cli_name=name.replace("_", "-")))


_AFTER_DOMAIN = """Next steps:
1. Describe your messages in lakehouse/domains/{name}/contract.py, and correct the other files after it.
2. Work out tests/golden/{name}/out.jsonl by hand for tests/golden/{name}/in.jsonl.
3. Run `make check`, then `.venv/bin/python -m pytest tests/spark/test_{name}.py`.
4. Add a source with `weir new source NAME --domain {name}`, and run the queries with `weir stream {name}`."""
_AFTER_SOURCE = """Next steps:
1. Set the address and the names of the fields in producers/sources/{name}/client.py, and whom to poll in source.py.
2. Put an answer of the real API into tests/unit/producers/test_{name}.py, and run `make check`.
3. Try it with `weir produce {cli_name} --once`; `weir up` then polls it every WEIR_POLL_MINUTES."""
