"""How are the results of prove, rebuild, why and check printed? As text for people or as JSON for programs, on stdout."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from batch.check import Checked
from batch.compare import Comparison, Difference
from batch.lineage import Level, offsets
from batch.prove.proofs_table import Proof, Way
from lakehouse.alerts import Alert
from lakehouse.query.show import plain, table
from lakehouse.tables.catalog import NAME
from monitoring.alerts import Judged

# {place, such as topic/partition: contiguous ranges of offsets}.
Places = Mapping[str, Sequence[tuple[int, int]]]
WAYS: Mapping[Way, str] = {"batch": "one batch pass", "independent": "DuckDB's SQL"}
MOST_RUNS = 8


def print_proofs(proofs: Sequence[Proof], sources: Mapping[int, Places], as_json: bool) -> None:
    """Print the results of proofs, with the first differences.

    Args:
        proofs: one per domain.
        sources: by `id` of a difference, the offsets of the messages from which its row was computed.
        as_json: print JSON, with an object per domain.
    """
    if as_json:
        print(json.dumps([_proof_json(proof, sources) for proof in proofs], ensure_ascii=False, indent=1))
        return
    for proof in proofs:
        days = "" if proof.days is None else f", {proof.days[0]} to {proof.days[1]}"
        print(f"{proof.domain}, as of {proof.proved_ts:%Y-%m-%d %H:%M:%SZ}{days}: {_edition(proof.edition)}")
        table(
            ("gold table", "against", "rows", "expected", "missing", "extra", "doubled", "different", ""),
            [
                (_short(one.table), WAYS[way], one.rows, one.expected, one.missing, one.extra, one.doubled, one.different, _verdict(one))
                for way, one in proof.compared
            ],
        )
        for way, one in proof.compared:
            if one.differences:
                _print_differences(way, one, sources)
        took = ", ".join(f"{part} {seconds:.1f}" for part, seconds in proof.seconds.items())
        verdict = "equals" if proof.is_equal else "does NOT equal"
        kept = "stored in lh.ops.proofs" if proof.is_kept else f"not stored: {proof.not_kept}"
        print(f"gold {verdict} what is computed from the messages that arrived ({proof.took:.1f} s: {took}); {kept}")
        if proof.would_change:
            parts = ", ".join(f"{what} from {current} to {asked}" for what, (current, asked) in proof.would_change.items())
            print(
                f"Gold was proved by its own edition. The settings would change {parts}: "
                f"`weir rebuild {proof.domain} --layer gold --dry-run` shows in which rows, and without --dry-run applies it."
            )
        if proof.advice:
            print(proof.advice)
        elif not proof.is_equal:
            print(
                "The next start of the stream completes work that a crash interrupted, and a backfill computes gold at its end. "
                "`weir why TABLE col=value …` shows from which rows a row was computed."
            )


def print_rebuilt(compared: Sequence[Comparison]) -> None:
    """Print how tables differ from their rebuild."""
    table(
        ("table", "rows", "built", "new", "gone", "changed", "doubled", ""),
        [
            (_short(one.table), one.rows, one.expected, one.missing, one.extra, one.different, one.doubled, _verdict(one))
            for one in compared
        ],
    )
    for one in compared:
        if one.differences:
            columns = ", ".join(f"{name} in {number:,}" for name, number in one.columns.items())
            print(f"\n{_short(one.table)}: {columns or 'whole rows'}; the first of them:")
            for difference in one.first:
                print(f"  {_key(difference)}" + {"missing": ": new", "extra": ": gone", "different": ""}[difference.kind])
                if difference.kind == "different":
                    for name, (now, built) in difference.columns.items():
                        print(f"    {name}: {plain(now)} -> {plain(built)}")


def comparison_json(one: Comparison, sources: Mapping[int, Places] = MappingProxyType({})) -> dict[str, Any]:
    """Return a comparison for JSON; `sources` as for `print_proofs`."""
    names = ("table", "rows", "expected", "missing", "extra", "doubled", "different")
    return {
        **{name: getattr(one, name) for name in names},
        "columns": dict(one.columns),
        "first": [_difference_json(difference, sources) for difference in one.first],
    }


def print_trace(levels: Sequence[Level], as_json: bool) -> None:
    """Print rows and the rows from which they were computed, level by level."""
    if as_json:
        print(
            json.dumps(
                [{"table": one.table, "rows": [_row_json(row) for row in one.rows.to_pylist()]} for one in levels], ensure_ascii=False
            )
        )
        return
    for number, one in enumerate(levels):
        plural = "" if one.rows.num_rows == 1 else "s"
        print(("" if number == 0 else "\ncomputed from ") + f"{one.rows.num_rows:,} row{plural} of {one.table}")
        if one.is_bronze:
            print("  " + _places(offsets(one.rows)))
        shown = _of_messages(one.rows) if one.is_bronze else one.rows
        table(tuple(shown.column_names), [tuple(row.values()) for row in shown.to_pylist()])


def print_checks(checked: Sequence[Checked], judged: Sequence[Judged], as_json: bool) -> None:
    """Print the results of checks, then the failures with their first rows, then alerts, which are warnings."""
    alerts = [alert for one in judged for alert in one.alerts]
    if as_json:
        print(json.dumps([*(plain(one.as_dict()) for one in checked), *map(_alert_json, alerts)], ensure_ascii=False, indent=1))
        return
    table(
        ("table", "check", "rows", "bad", ""),
        [(_short(one.table), one.name, one.rows, one.bad, "ok" if one.is_good else "FAILED") for one in checked],
    )
    for one in checked:
        if one.groups:
            print(f"\n{_short(one.table)}: {one.name}")
            table(tuple(one.groups[0]), [tuple(group.values()) for group in one.groups])
    for one in checked:
        if not one.is_good:
            print(f"{_short(one.table)}: {one.name}: {one.bad:,} bad: {one.says}")
    failed = sum(not one.is_good for one in checked)
    print(f"{len(checked)} checks, {failed} failed")
    if alerts:
        print()
        states = [("not judged" if alert.value is None else "WARNING" if alert.is_raised else "ok") for alert in alerts]
        table(
            ("alert", "of", "", "found"),
            [(alert.kind, alert.name, state, alert.says) for alert, state in zip(alerts, states, strict=True)],
        )
        print(f"{len(alerts)} alerts, {sum(alert.is_raised for alert in alerts)} raised")


def _alert_json(alert: Alert) -> dict[str, Any]:
    """Write an alert with the keys of a check and its own; `severity` tells them apart."""
    return {
        "table": alert.table,
        "name": f"{alert.kind} of {alert.name}",
        "is_good": not alert.is_raised,
        "severity": "warning",
        "alert": alert.kind,
        "value": alert.value,
        "bound": alert.bound,
        "says": alert.says,
        "groups": [],
    }


def _print_differences(way: Way, one: Comparison, sources: Mapping[int, Places]) -> None:
    columns = ", ".join(f"{name} in {number:,}" for name, number in one.columns.items())
    print(f"\n{_short(one.table)} against {WAYS[way]}: {columns or 'whole rows'}; the first of them:")
    for difference in one.first:
        print(f"  {_key(difference)}" + {"missing": ": missing", "extra": ": not expected", "different": ""}[difference.kind])
        if difference.kind == "different":
            for name, (found, expected) in difference.columns.items():
                print(f"    {name} is {plain(found)}, expected {plain(expected)}")
        if id(difference) in sources:
            print(f"    from {_places(sources[id(difference)])}")


def _proof_json(proof: Proof, sources: Mapping[int, Places]) -> dict[str, Any]:
    return {
        "domain": proof.domain,
        "proved_ts": plain(proof.proved_ts),
        "since": None if proof.days is None else str(proof.days[0]),
        "until": None if proof.days is None else str(proof.days[1]),
        "is_equal": proof.is_equal,
        "is_kept": proof.is_kept,
        "advice": proof.advice,
        "edition": proof.edition,
        "settings_would_change": {what: {"is": found, "would_be": asked} for what, (found, asked) in proof.would_change.items()},
        "applied": json.loads(proof.applied_json()),
        "took": round(proof.took, 3),
        "seconds": {part: round(seconds, 3) for part, seconds in proof.seconds.items()},
        "compared": [{"against": way, **comparison_json(one, sources)} for way, one in proof.compared],
    }


def _difference_json(difference: Difference, sources: Mapping[int, Places]) -> dict[str, Any]:
    return {
        "key": plain(dict(difference.key)),
        "kind": difference.kind,
        "columns": {name: {"found": plain(found), "expected": plain(wanted)} for name, (found, wanted) in difference.columns.items()},
        "from": {place: [list(run) for run in runs] for place, runs in sources.get(id(difference), {}).items()},
    }


def _row_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}


def _of_messages(rows: pa.Table) -> pa.Table:
    """Select the columns that describe messages: whether silver uses them, their offsets and their bytes."""
    wanted = ["_used", "topic", "partition", "kafka_offset", "source_run", "source_row", "kafka_ts", "value"]
    empty = [name for name in wanted if rows[name].null_count == rows.num_rows]
    return rows.select([name for name in wanted if name not in empty])


def _places(places: Places) -> str:
    described = []
    for place, runs in places.items():
        shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:MOST_RUNS]]
        described.append(f"{place} at {', '.join(shown)}" + (f" and {len(runs) - MOST_RUNS} more" if len(runs) > MOST_RUNS else ""))
    return "; ".join(described) or "no message"


def _key(difference: Difference) -> str:
    return " ".join(f"{name}={plain(value)}" for name, value in difference.key.items())


def _verdict(one: Comparison) -> str:
    return "DIFFERENT" if one.differences else "equal"


def _edition(edition: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in edition.items())


def _short(name: str) -> str:
    return name.removeprefix(f"{NAME}.")
