"""What should derived tables be, computed by somebody else? A domain's SQL, run in DuckDB over bronze; imports nothing of lakehouse/.

The SQL finds a view for each source, `bronze_` and the name of its bronze table without the layer (and `bronze`, where there is one
source), a view for each dimension, and a variable for each part of the edition. Each table that it creates is one of the derived
ones, by its name.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

# What a row of bronze must tell: the bytes that arrived, and where and when they did.
BRONZE_COLUMNS = ("value", "topic", "partition", "kafka_offset", "kafka_ts", "source_run", "wire_version")


def recompute(sql: str, bronze: Mapping[str, Any], dimensions: Mapping[str, pa.Table], edition: Mapping[str, str]) -> dict[str, pa.Table]:
    """Recompute a domain's derived tables from the bytes that arrived.

    Args:
        sql: the domain's.
        bronze: by source, BRONZE_COLUMNS of every row of its bronze: an Arrow table, or a scanner of one. Avro as `avro_json.py` gives it.
        dimensions: the dimensions' rows, by name without layer.
        edition: what the tables are computed by, as `weir.…` properties of them say.

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
        made = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        return {name: connection.sql(f"FROM {name}").to_arrow_table() for (name,) in made}
