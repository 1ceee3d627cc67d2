"""What should derived tables contain, by an independent computation? A domain's SQL, run in DuckDB over bronze, without lakehouse/.

The SQL can read a view for each source, named `bronze_` plus its bronze table's name without the layer (and `bronze` if there is only one
source), a view for each dimension, and a variable for each part of the edition. Each table that it creates is the derived table of the same
name.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

# The columns of bronze that it needs: the bytes that arrived, and where and when they did.
BRONZE_COLUMNS = ("value", "topic", "partition", "kafka_offset", "kafka_ts", "source_run", "wire_version")


def recompute(sql: str, bronze: Mapping[str, Any], dimensions: Mapping[str, pa.Table], edition: Mapping[str, str]) -> dict[str, pa.Table]:
    """Recompute a domain's derived tables from the bytes that arrived.

    Args:
        sql: the domain's.
        bronze: by source, BRONZE_COLUMNS of every row of its bronze: an Arrow table or a scanner. Avro as converted by `avro_json.py`.
        dimensions: the dimensions' rows, by name without layer.
        edition: the edition by which the tables are computed, as in their `weir.…` properties.

    Returns:
        The derived tables by name without layer, all columns, in no order.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        views = {f"bronze_{name}": rows for name, rows in bronze.items()}
        if len(views) == 1:
            views["bronze"] = next(iter(bronze.values()))
        for name, rows in {**views, **dimensions}.items():
            connection.register(name, rows)
        for name, value in edition.items():
            connection.execute(f"SET VARIABLE {name} = $1", [value])
        connection.execute(sql)
        names = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        return {name: connection.sql(f"FROM {name}").to_arrow_table() for (name,) in names}
