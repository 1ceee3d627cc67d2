"""Are two tables equal? Row order does not matter, doubles may differ in their last bits, and a difference is shown side by side."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

Row = Mapping[str, object]
RELATIVE = 1e-9


def assert_rows(found: pa.Table, expected: pa.Table, key: Sequence[str]) -> None:
    """Fail with the first differing rows unless both tables have the same columns, keys and values."""
    assert sorted(found.column_names) == sorted(expected.column_names)
    left, right = _by_key(found.to_pylist(), key), _by_key(expected.to_pylist(), key)
    problems = [f"missing: {dict(right[k])}" for k in sorted(right.keys() - left.keys(), key=repr)[:5]]
    problems += [f"too many: {dict(left[k])}" for k in sorted(left.keys() - right.keys(), key=repr)[:5]]
    for k in sorted(left.keys() & right.keys(), key=repr):
        differing = [
            f"{name}: {left[k][name]!r} != {right[k][name]!r}" for name in found.column_names if not same(left[k][name], right[k][name])
        ]
        if differing:
            problems.append(f"{k}: " + ", ".join(differing))
        if len(problems) > 10:
            break
    assert not problems, "\n".join(["found != expected", *problems])


def same(left: object, right: object) -> bool:
    """Compare two values; doubles within 1e-9 relative, null equal to null."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=RELATIVE, abs_tol=1e-12)
    return left == right


def _by_key(rows: Iterable[Row], key: Sequence[str]) -> dict[tuple[object, ...], Row]:
    keyed: dict[tuple[object, ...], Row] = {}
    for row in rows:
        k = tuple(row[name] for name in key)
        assert k not in keyed, f"two rows with key {k}"
        keyed[k] = row
    return keyed
