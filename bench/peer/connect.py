"""How does the peer run? Kafka Connect, standalone, with Iceberg's sink: one JVM, settings in the two files beside this one."""

import os
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, IcebergType, NestedField, StringType, TimestamptzType

from bench.stage import Home, Program, Stage
from deploy.local.agent.processes import free_ports
from deploy.local.jars import DEFAULT_FOLDER, Jar, fetch, locked_jars
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.machine.java import find_java

HERE = Path(__file__).parent
TABLE = "peer.open_meteo_hourly"
_TYPES: dict[str, IcebergType] = {"string": StringType(), "double": DoubleType(), "timestamp": TimestamptzType()}


def fetch_jars() -> None:
    """Bring the locked jars; those that are there and right are left alone."""
    fetch(DEFAULT_FOLDER, dict(os.environ), locked_jars(HERE / "jars.lock"))


def prepare(stage: Stage) -> Home:
    """Make a home with the sink's table in a catalog of the product's kind, and the sink's control topic.

    The table has the contract's columns; the sink turns a number into a timestamp as milliseconds. It writes neither the
    bytes nor where they came from.
    """
    home = stage.home(places=1)
    folder = home.folder
    catalog = SqlCatalog("lh", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=(folder / "warehouse").as_uri())
    catalog.create_namespace("peer")
    fields = [NestedField(n, f.name, _TYPES[f.type], required=False) for n, f in enumerate(HOURLY.fields, start=1)]
    catalog.create_table(TABLE, Schema(*fields), properties={"format-version": "2", "write.parquet.compression-codec": "zstd"})
    catalog.close()
    admin = AdminClient({"bootstrap.servers": stage.bootstrap})
    control = _control(home)
    admin.create_topics([NewTopic(control, num_partitions=1)])[control].result(timeout=30)
    return home


def start(stage: Stage, home: Home, heap: str) -> Program:
    """Start the worker with the sink."""
    # A folder of plugins, each of which is a folder of jars.
    plugins = home.folder / "plugins"
    plugins.mkdir()
    (plugins / "iceberg").symlink_to(DEFAULT_FOLDER / "connect-iceberg")
    values = {
        "bootstrap": stage.bootstrap,
        "port": str(free_ports(1)[0]),
        "plugins": str(plugins),
        "folder": str(home.folder),
        "topic": HOURLY.topic,
        "control": _control(home),
    }
    for name in ("worker.properties", "sink.properties"):
        text = (HERE / name).read_text()
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        # Each run is another connector: its consumer group has read nothing yet.
        (home.folder / name).write_text(text.replace("name=iceberg\n", f"name=iceberg-{home.folder.name}\n"))
    java = find_java(os.environ)
    class_path = os.pathsep.join(str(DEFAULT_FOLDER / jar.classpath / jar.file_name) for jar in _jars("connect"))
    command = [str(java.launcher), f"-Xmx{heap}", "-XX:+UseParallelGC", f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"]
    properties = [str(home.folder / name) for name in ("worker.properties", "sink.properties")]
    return stage.start(
        [*command, "-cp", class_path, "org.apache.kafka.connect.cli.ConnectStandalone", *properties], home.folder / "connect.log"
    )


def _control(home: Home) -> str:
    return f"control-{home.folder.name}"


def _jars(classpath: str) -> list[Jar]:
    return [jar for jar in locked_jars(HERE / "jars.lock") if jar.classpath == classpath]
