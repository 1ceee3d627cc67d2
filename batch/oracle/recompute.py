"""What should gold be, computed by somebody else? A domain's SQL, run in DuckDB over bronze; imports nothing of lakehouse/.

Beside this module lies a file `DOMAIN.sql` per domain. It finds the view `bronze`, a view for each dimension, and a variable for each
part of the edition; each table that it creates is one of gold's, by its name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

FOLDER = Path(__file__).parent
# What a row of bronze must tell: the bytes that arrived, and where and when they did.
BRONZE_COLUMNS = ("value", "topic", "partition", "kafka_offset", "kafka_ts", "source_run")


def recompute(domain: str, bronze: Any, dimensions: Mapping[str, pa.Table], edition: Mapping[str, str]) -> dict[str, pa.Table]:  # noqa: ANN401 - all that DuckDB can register
    """Recompute a domain's gold from the bytes that arrived.

    Args:
        domain: its name.
        bronze: BRONZE_COLUMNS of every row of bronze: an Arrow table, or a scanner of one.
        dimensions: the dimensions' rows, by name without layer.
        edition: what gold is computed by, as `weir.…` properties of its tables say.

    Returns:
        The fact tables by name without layer, all columns, in no order.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("bronze", bronze)
        for name, rows in dimensions.items():
            connection.register(name, rows)
        for name, value in edition.items():
            connection.execute(f"SET VARIABLE {name} = $1", [value])
        connection.execute((FOLDER / f"{domain}.sql").read_text(encoding="utf-8"))
        made = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        return {name: connection.sql(f"FROM {name}").to_arrow_table() for (name,) in made}
