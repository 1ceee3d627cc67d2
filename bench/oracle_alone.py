"""What does the independent half of `weir prove` cost by itself? `python -m bench.oracle_alone`: no Spark, no comparison, nothing kept.

Reads from bronze what DuckDB needs, and recomputes gold by the domain's SQL, with the functions that `weir prove` calls.
"""

import json
import time

from batch.consistent_snapshots import Heads
from batch.prove.oracle.recompute import recompute
from batch.prove.prove import arrived, dimensions_of
from lakehouse.registry import build_domain
from lakehouse.settings import Settings


def main() -> None:
    """Recompute, and print the rows of each table."""
    settings = Settings()
    domain = build_domain("air_quality", settings)
    began = time.perf_counter()
    with Heads.look(settings, domain) as heads:
        bronze = {source.name: arrived(heads, source) for source in domain.sources}
        made = recompute(domain.oracle, bronze, dimensions_of(domain), domain.edition)
    seconds = time.perf_counter() - began
    print(json.dumps({"rows": {name: rows.num_rows for name, rows in made.items()}, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
