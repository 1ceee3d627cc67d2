"""How does another program open these tables? Texts that run as they stand, with the settings of this home written out."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import pyspark

from lakehouse.query.reader import Reader
from lakehouse.settings import Settings
from lakehouse.spark import jvm_conf, spark_conf
from lakehouse.tables.catalog import UnsupportedCatalog, pyiceberg_properties, spark_catalog_conf

# Of the stream's own configuration only what decides whether and how the tables are read; the rest tunes micro-batches.
_READING = (
    "spark.sql.extensions",
    "spark.sql.defaultCatalog",
    "spark.sql.session.timeZone",
    "spark.driver.extraClassPath",
    "spark.driver.host",
    "spark.driver.bindAddress",
    "spark.ui.enabled",
)
_ANY = "lh.gold.TABLE"


def snippets(settings: Settings) -> dict[str, str]:
    """Return a text for each engine that can read the catalog: duckdb, pyiceberg and spark in Python, spark-sql for a shell.

    Raises:
        NoTables: there is nothing to connect to yet.
        JarsMissing: Spark could not read them.
    """
    whole = spark_conf(settings) | jvm_conf(settings)
    conf = {key: value for key, value in whole.items() if key in _READING} | spark_catalog_conf(settings)
    try:
        properties = pyiceberg_properties(settings)
    except UnsupportedCatalog:  # a hadoop catalog: Spark only, and nothing to look for an example in
        return _for_spark(conf, _ANY)
    with Reader(settings) as reader:
        table = _example(reader.names)
    return _without_spark(properties, table) | _for_spark(conf, table)


def _example(names: Iterable[str]) -> str:
    """Choose a table that is worth a look: a fact of gold, or whatever is there."""
    known = [name for name in names if not name.startswith("lh.ops.")]
    return next((name for name in known if name.startswith("lh.gold.fact_")), known[0])


def _without_spark(properties: dict[str, str], table: str) -> dict[str, str]:
    _, layer, name = table.split(".")
    load = f'''from pyiceberg.catalog import load_catalog

catalog = load_catalog("lh", **{_literal(properties)})
table = catalog.load_table("{layer}.{name}")
'''
    return {
        "duckdb": f'''# DuckDB over PyIceberg, in Python; as many tables as you register
import duckdb
{load}
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
connection.register("{name}", table.scan().to_arrow())
print(connection.sql("SELECT * FROM {name} LIMIT 5"))
''',
        "pyiceberg": f"""# PyIceberg alone, in Python
{load}
print(table.schema())
print(table.scan(limit=5).to_arrow())
""",
    }


def _for_spark(conf: dict[str, str], table: str) -> dict[str, str]:
    home = Path(pyspark.__file__).parent  # found by the script itself only where its own Python comes first on the path
    options = " \\\n  ".join(f"--conf {shlex.quote(f'{key}={value}')}" for key, value in conf.items())
    return {
        "spark": f'''# Spark, in Python
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[2]").appName("reading weir")
for key, value in {_literal(conf)}.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spark.table("{table}").show(5)
''',
        "spark-sql": f"""# Spark, in a shell
SPARK_HOME={shlex.quote(str(home))} {shlex.quote(str(home / "bin" / "spark-sql"))} --master 'local[2]' \\
  {options} \\
  -e 'SELECT * FROM {table} LIMIT 5'
""",
    }


def _literal(values: dict[str, str]) -> str:
    """Write a dictionary of texts as Python reads it, an entry a line."""
    lines = "".join(f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in values.items())
    return f"{{\n{lines}}}"
