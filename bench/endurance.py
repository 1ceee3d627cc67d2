"""B8: does a micro-batch get slower as commits pile up? The first tenth of a run of the live load against its last."""

from bench.measure import median
from bench.report import goal, show
from bench.stage import Batch

QUERIES = ("bronze.open_meteo_hourly", "silver.air_quality_hourly_clean")


def print_endurance(batches: list[Batch], seconds: float) -> None:
    """Print the micro-batch times of the first tenth against those of the last."""
    rows: list[list[str]] = []
    notes: list[str] = []
    for query in QUERIES:
        mine = [batch for batch in batches if batch.query == query]
        if len(mine) < 2:
            notes.append(f"  {query}: {len(mine)} micro-batches in {seconds:g} s, too few to compare")
            continue
        first, last = tenths(mine)
        a, b = median(batch.seconds for batch in first), median(batch.seconds for batch in last)
        counts = [f"{median(batch.rows for batch in part):,.0f}" for part in (first, last)]
        rows.append([query, str(len(mine)), f"{a:.3f}", f"{b:.3f}", *counts])
        notes.append(goal(f"{query}: last tenth / first tenth", b / a, 1.2))
    show(
        f"B8 micro-batch time, {seconds:g} s at 100 readings/s after the warm-up, one run",
        ["query", "micro-batches", "first tenth s", "last tenth s", "rows first", "rows last"],
        rows,
        notes,
    )


def tenths(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Cut off the first and the last tenth, at least one micro-batch each."""
    count = max(1, len(batches) // 10)
    return batches[:count], batches[-count:]
