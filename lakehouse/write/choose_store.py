"""From memory or by MERGE: how are the rows of one call written? The one place that decides, before anything is written.

A store in memory (`small_batches/`) takes the rows of a micro-batch or chunk, computed by the engine of `lakehouse/engine/choose.py`. MERGE
by Spark takes everything else: large passes, more rows than the engine's memory holds, and tables that other programs have changed in a way
that a row delta cannot continue. How many rows of the tables are reached shows only on the way: if there are too many, the work is done
again by MERGE, which is safe, since every write is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import structlog
from pyspark.sql import SparkSession

from lakehouse.domain import Domain
from lakehouse.engine.engine import DoesNotFit
from lakehouse.write.merge_store import MergeStore
from lakehouse.write.small_batches.memory_store import Memory
from lakehouse.write.small_batches.recent_rows import BesideCommit
from lakehouse.write.small_batches.session_tuning import session_conf
from lakehouse.write.store import Store

log = structlog.get_logger("weir.stream")


def fits(memory: Memory | None, rows: int) -> bool:
    """Return whether so many rows of a micro-batch are taken into memory."""
    return memory is not None and rows <= memory.most_rows


def write_by_store(
    spark: SparkSession,
    domain: Domain,
    memory: Memory | None,
    properties: Mapping[str, str],
    work: Callable[[Store[Any]], None],
    conf: Mapping[str, str] = MappingProxyType({}),
    *,
    one_task: bool = False,
    is_beside: bool = False,
) -> str:
    """Write with the store that is right for the tables, and return the name of its engine.

    Args:
        spark: the session.
        domain: whose tables.
        memory: of the caller; None for MERGE.
        properties: of every snapshot.
        work: writes with a store; safe to repeat with another one.
        conf: session settings for the store in memory.
        one_task: whether MERGE runs by one task at a time.
        is_beside: whether the tables are the branches of a rebuild.
    """
    if memory is not None:
        with session_conf(spark, conf):
            if reason := memory.unfit(spark):
                log.debug("merged", why=reason)
            else:
                try:
                    with memory.store(spark, domain, properties) as store:
                        work(store)
                    return store.engine_name
                except (DoesNotFit, BesideCommit) as error:
                    log.debug("merged", why=str(error))
    merging = MergeStore(spark, domain, properties, one_task, is_beside)
    work(merging)
    return merging.engine_name
