"""What does a new domain begin with? A contract, rules, transforms, tables, its SQL for proofs, and tests of each."""

from pathlib import Path

from deploy.new.names import check_name
from deploy.new.plan import Plan
from lakehouse.domain_names import DOMAINS

_MODULES = ("contract.py", "rules.py", "transforms.py", "tables.py", "domain.py", "oracle.sql")


def plan_domain(root: Path, name: str) -> Plan:
    """Plan a domain's files.

    Raises:
        UnusableName: it cannot be called so.
    """
    check_name("domain", name, {*DOMAINS, *_folders(root)}, root)
    words = {"name": name, "constant": name.upper(), "topic": f"{name.replace('_', '-')}.v1"}
    folder, tests = f"lakehouse/domains/{name}", f"tests/unit/lakehouse/domains/{name}"
    plan = Plan(root, "lakehouse/domain_names.py", f'    "{name}": "lakehouse.domains.{name}.domain",')
    plan.files |= {f"{folder}/__init__.py": "", f"{tests}/__init__.py": ""}
    for module in _MODULES:
        plan.add(f"{folder}/{module}", f"domain/{module}.tmpl", words)
    plan.add(f"{tests}/test_{name}_rules.py", "domain/test_unit.py.tmpl", words)
    plan.add(f"tests/spark/test_{name}.py", "domain/test_spark.py.tmpl", words)
    plan.add(f"tests/golden/{name}/in.jsonl", "domain/golden_in.jsonl.tmpl", words)
    plan.add(f"tests/golden/{name}/out.jsonl", "domain/golden_out.jsonl.tmpl", words)
    return plan


def _folders(root: Path) -> set[str]:
    return {folder.name for folder in (root / "lakehouse" / "domains").iterdir() if (folder / "__init__.py").exists()}
