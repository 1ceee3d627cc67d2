"""What does a new source begin with? A record, a client that polls a JSON API over HTTP, and a test of both."""

import importlib
import json
from pathlib import Path

from deploy.new.names import check_name
from deploy.new.plan import Plan
from lakehouse.contract import Contract, Field
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import DeployError, Fatal
from lakehouse.registry import UnknownDomain
from producers.sources.registry import DUMPS, SOURCES

_EXAMPLES: dict[str, object] = {"boolean": True, "date": "2025-03-01"}


class NoContract(DeployError, Fatal):
    """The domain has no contract that records could be made by."""

    def __init__(self, domain: str, module: str) -> None:
        super().__init__(f"The domain {domain} has no contract in {module}, by which the source could make its records.")


def plan_source(root: Path, name: str, domain: str) -> Plan:
    """Plan a source's files.

    Raises:
        UnusableName: it cannot be called so.
        UnknownDomain, NoContract: there is nothing that the records could go to.
    """
    check_name("source", name, {source.replace("-", "_") for source in (*SOURCES, *DUMPS)}, root)
    if domain not in DOMAINS:
        raise UnknownDomain(domain, DOMAINS)
    module = f"{DOMAINS[domain].rpartition('.')[0]}.contract"
    found = {key: value for key, value in vars(importlib.import_module(module)).items() if isinstance(value, Contract)}
    if not found:
        raise NoContract(domain, module)
    contract_name, contract = next(iter(found.items()))
    words = {
        "name": name,
        "cli_name": name.replace("_", "-"),
        "constant": name.upper(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "domain": domain,
        "contract_module": module,
        "contract": contract_name,
        "entity": ", ".join(contract.entity),
        "version": contract.version,
        **_record_words(contract),
    }
    folder, tests = f"producers/sources/{name}", "tests/unit/producers"
    plan = Plan(root, "producers/sources/registry.py", f'    "{words["cli_name"]}": "producers.sources.{name}.source:{words["constant"]}",')
    plan.files |= {f"{folder}/__init__.py": ""}
    for file in ("source.py", "client.py"):
        plan.add(f"{folder}/{file}", f"source/{file}.tmpl", words)
    plan.add(f"{tests}/test_{name}.py", "source/test_unit.py.tmpl", words)
    return plan


def _record_words(contract: Contract) -> dict[str, str]:
    """Write the mapping of the contract's fields, and an example of an answer."""
    is_instant = contract.field(contract.version).kind.is_instant
    given = {*contract.entity, *([contract.version] if is_instant else [])}
    mapped = [field for field in contract.fields if field.name not in given]
    return {
        "example": ":".join("north" for _ in contract.entity),
        "unknown": ":".join("nobody" for _ in contract.entity),
        "mapping": "\n".join(f'    "{field.name}": "{field.name}",' for field in mapped),
        "sample": "{" + ", ".join(f'"{field.name}": {_python(_example(field))}' for field in mapped) + "}",
        "version_entry": f'"{contract.version}": now' if is_instant else "",
    }


def _example(field: Field) -> object:
    """Make up a value as JSON has it, within the field's bounds."""
    if field.kind.is_instant:
        return "2025-03-01T12:00:00Z"
    if field.kind.is_number:
        bound = field.low if field.low is not None else field.high
        value = 1 if bound is None else bound
        return int(value) if field.type == "long" else float(value)
    return _EXAMPLES.get(field.type, "example")


def _python(value: object) -> str:
    return repr(value) if isinstance(value, bool) else json.dumps(value)
