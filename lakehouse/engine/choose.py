"""Which engine computes rows in memory? DuckDB, unless `WEIR_ENGINE` says otherwise.

Micro-batches, chunks of a backfill and parts of derived tables are computed from rows in memory. Which of them are left to Spark and MERGE
is decided in `lakehouse/write/choose_store.py`.
"""

import atexit
import os
from functools import cache
from pathlib import Path

from lakehouse.engine.engine import Engine
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.machine.environment import spark_scratch
from lakehouse.settings import Settings


def memory_engine(settings: Settings) -> Engine | None:
    """Return the engine of this process for rows in memory; None for Spark, in the session of the caller."""
    return None if settings.engine == "spark" else _duck_engine(settings.duckdb_memory)


@cache
def _duck_engine(memory: str) -> DuckEngine:
    folder: Path = spark_scratch() / f"weir-duckdb-{os.getpid()}"
    engine = DuckEngine(memory, folder)
    atexit.register(engine.close)
    return engine
