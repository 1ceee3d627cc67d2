"""Which names does weir write into Iceberg's metadata? Every `weir.*` property of a snapshot or a table, in one place.

These names are part of the format of a home: older tables cannot be read by a changed name. The module that writes a value documents it.
"""

from collections.abc import Mapping

# In the summary of a snapshot: which commit it is. `lh.ops.batches` is read from these.
QUERY_PROPERTY = "weir.query"  # the query or program that committed, such as "silver.trades" or "backfill market"
BATCH_ID_PROPERTY = "weir.batch-id"  # Spark's number of the micro-batch; absent outside a query
CODE_VERSION_PROPERTY = "weir.code-version"
ENGINE_PROPERTY = "weir.engine"  # silver and derived tables: what computed the rows, "duckdb" or "spark"
ROWS_IN_PROPERTY = "weir.rows-in"
ROWS_ACCEPTED_PROPERTY = "weir.rows-accepted"
REJECTED_PROPERTY = "weir.rejected"  # {rule: rows}
OFFSET_RANGE_PROPERTY = "weir.offset-range"  # silver and gold: {topic: {partition: [first, last]}} of the rows that were applied

# In the summary of a snapshot: what must be found again after a crash.
MARK_PROPERTY = "weir.offsets"  # bronze: {topic: {"id": …, "next": {partition: next offset}}}, `write/fenced_append.py`
MADE_OF_PROPERTY = "weir.made-of"  # also of a table: {derived table: {input: snapshot id}}, `pending.py`
DEFERRED_PROPERTY = "weir.deferred"  # silver: the program that recomputes derived tables later, `pending.py`
CHUNK_PROPERTY = "weir.chunk"  # bronze: a backfill's chunk, `batch/backfill/chunks.py`
RETENTION_PROPERTY = "weir.retention"  # bronze: the first UTC day of arrival that was kept, `batch/maintain/retention.py`
PROOF_PROPERTY = "weir.proof"  # lh.ops.proofs: the result in short, `monitoring/last_proofs.py`
MAINTAINED_PROPERTY = "weir.maintained"  # lh.ops.maintenance: {table: what maintenance measured}, `monitoring/table_upkeep.py`

# Of a table: how it is specified.
GRAIN_PROPERTY = "weir.grain"
KEY_PROPERTY = "weir.key"  # column names, comma-separated
COLUMNS_PROPERTY = "weir.columns"  # the columns that weir created, comma-separated; others are somebody else's
CONTRACT_PROPERTY = "weir.contract"  # bronze: the contract by which it is written, `evolution.py`

# Of a table: what its expired snapshots knew, `notes.py`.
APPLIED_PROPERTY = "weir.applied"  # silver: {topic: {partition: last offset}} that silver, gold or rejects were computed from
CHANGED_PROPERTY = "weir.changed-ms"  # when rows last changed, in ms since 1970; joining small files changes none
SINCE_PROPERTY = "weir.bronze-since"  # bronze: the first UTC day of arrival that is complete; older ones fell to `bronze_days`

# Of silver, while a rebuild is being published: `write/publishing.py`.
PUBLISHING_PROPERTY = "weir.publishing"


def edition_property(name: str) -> str:
    """Name the property in which a gold table keeps an edition of its rules, or the release of reference data it agrees with."""
    return f"weir.{name}"


def run_of(properties: Mapping[str, str]) -> str:
    """Name the run that writes a snapshot with these properties: the query or program, and the number of its micro-batch if it has one."""
    return " ".join(properties[name] for name in (QUERY_PROPERTY, BATCH_ID_PROPERTY) if name in properties)
