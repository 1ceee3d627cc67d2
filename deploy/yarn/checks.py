"""Is the cluster as weir needs it? What `weir doctor` asks of HDFS, YARN, the catalog and the checkpoints, where the settings name one."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import requests

from deploy.yarn.application_conf import Resources, driver_mebibytes
from deploy.yarn.errors import CatalogNotWritable, HdfsNotWritable, TooSmall, UnknownQueue
from deploy.yarn.manager import Manager, Queue, site_values
from lakehouse.domain_names import DOMAINS
from lakehouse.machine.fitness import ClockWrong, Noted
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.folders import Folder, open_folder
from lakehouse.storage.hdfs import client_of
from streaming.checkpoints import Position, examine
from streaming.errors import BadCheckpoint

# Above it an application may have to wait for its driver's container.
BUSY = 0.8
# Below this share of free space, HDFS soon takes no block.
LEAST_FREE = 0.1
# Lag and freshness are differences of clocks; Kerberos refuses five minutes.
CLOCKS_DIFFER, CLOCK_WRONG = timedelta(seconds=2), timedelta(minutes=5)
ASK_SECONDS = 3.0
_ATTEMPTS = "yarn.resourcemanager.am.max-attempts"


def hdfs(settings: Settings) -> str:
    """Write a small file into each folder of the settings that is on HDFS, remove it, and say how much room there is.

    Raises:
        HdfsNotWritable: with the reason: safe mode, permissions, space, or no answer.
    """
    places = {name: getattr(settings, name) for name in ("warehouse_uri", "checkpoints_uri", "state_uri")}
    written = []
    for name, uri in places.items():
        client, path = client_of(uri, settings.hadoop_conf_dir)
        probe = f"{path.rstrip('/')}/.weir-doctor-{os.getpid()}"
        try:
            client.mkdirs(path, create_parent=True)
            with client.create(probe) as file:
                file.write(b"weir")
            client.delete(probe)
        except (OSError, RuntimeError) as error:
            raise HdfsNotWritable(name, uri, str(error)) from error
        written.append(urlsplit(uri).path)
    says = f"{', '.join(written)} can be written at {urlsplit(settings.warehouse_uri).netloc}"
    space = _space(settings)
    if space is None:
        return f"{says}; its space is not known, since no NameNode's page answers"
    free, total, nodes = space
    says = f"{says}; {free / 2**30:.0f} of {total / 2**30:.0f} GiB free on {nodes} DataNode(s)"
    return Noted(f"{says}: less than {LEAST_FREE:.0%}, add space or expire snapshots") if free < LEAST_FREE * total else says


def _space(settings: Settings) -> tuple[int, int, int] | None:
    """Return HDFS's free and whole space [bytes] and its live DataNodes, from the page of a NameNode; None where none answers."""
    file = Path(settings.hadoop_conf_dir) / "hdfs-site.xml"
    addresses = (
        [value for name, value in site_values(file).items() if name.startswith("dfs.namenode.http-address")] if file.exists() else []
    )
    for address in addresses:
        try:
            query = {"qry": "Hadoop:service=NameNode,name=FSNamesystemState"}
            (state,) = requests.get(f"http://{address}/jmx", params=query, timeout=ASK_SECONDS).json()["beans"]
            return int(state["CapacityRemaining"]), int(state["CapacityTotal"]), int(state["NumLiveDataNodes"])
        except (requests.RequestException, ValueError, KeyError):
            continue
    return None


def yarn(settings: Settings) -> str:
    """Say how full the queue is, whether a driver fits, and what of weir runs.

    Raises:
        NoYarn: it does not answer.
        UnknownQueue: the queue is not there, or takes nothing.
        TooSmall: no node can hold the driver.
    """
    manager = Manager(settings)
    queue = queue_of(manager, settings.yarn_queue)
    wanted, largest = driver_mebibytes(settings), manager.largest_container()
    if wanted > largest:
        raise TooSmall(wanted, largest)
    says = (
        f"queue {queue.name} is {queue.used:.0%} full; a driver needs {wanted} MiB, the largest node has {largest}; "
        f"{len(manager.apps())} application(s) of weir run"
    )
    if queue.used > BUSY:
        return Noted(f"{says}. Above {BUSY:.0%} a driver that is started again may have to wait")
    attempts = manager.configured(_ATTEMPTS)
    if attempts.isdigit() and int(attempts) < Resources().attempts:
        return Noted(
            f"{says}. {_ATTEMPTS} is {attempts}: a driver is started again less often than the {Resources().attempts} times of weir"
        )
    return says


def queue_of(manager: Manager, name: str) -> Queue:
    """Return a queue.

    Raises:
        NoYarn: YARN does not answer.
        UnknownQueue: it is not there, or takes nothing.
    """
    queues = manager.queues()
    queue = queues.get(name.rpartition(".")[2])
    if queue is None or not queue.is_running:
        raise UnknownQueue(name, sorted(queues), "does not exist" if queue is None else "is stopped")
    return queue


def versions(settings: Settings) -> str:
    """Compare versions and clocks with the cluster's.

    Raises:
        NoYarn: it does not answer.
        ClockWrong: the clocks differ by minutes.
    """
    manager = Manager(settings)
    version, there = manager.version()
    now = datetime.now(UTC)
    says = f"Hadoop {version} at {manager.address}"
    if not version.startswith("3."):
        return Noted(f"{says}: weir was tried with Hadoop 3.4")
    if there is None:
        return says
    # The header has whole seconds.
    apart = max(timedelta(), abs(now - there) - timedelta(seconds=1))
    if apart > CLOCK_WRONG:
        raise ClockWrong(now, f"that of YARN's ResourceManager says {there:%Y-%m-%dT%H:%M:%SZ}")
    if apart > CLOCKS_DIFFER:
        return Noted(f"{says}; its clock is {apart.total_seconds():.0f} s off ours, which lag and freshness are off too: synchronise both")
    return f"{says}; its clock agrees with ours"


def catalog(settings: Settings) -> str:
    """Change the catalog's database within a transaction, and roll it back. Other catalogs are written with their files.

    Raises:
        CatalogNotWritable: the database refuses, or does not answer.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    from lakehouse.tables.catalog import catalog_kind, database_url, without_password

    kind, shown = catalog_kind(settings), without_password(settings.catalog_uri)
    if kind not in ("postgresql", "sqlite"):
        return f"{shown}: a catalog of the kind {kind} is checked with its folder; two drivers of one domain are not kept apart by it"
    try:
        with create_engine(database_url(settings), poolclass=NullPool).connect() as connection, connection.begin() as transaction:
            connection.execute(text(f"CREATE TABLE weir_doctor_{os.getpid()} (number INTEGER)"))
            connection.execute(text(f"INSERT INTO weir_doctor_{os.getpid()} VALUES (1)"))
            transaction.rollback()
    except SQLAlchemyError as error:
        raise CatalogNotWritable(shown, str(error).partition("\n")[0]) from error
    return f"{shown} can be written (tried and rolled back)"


def checkpoints(settings: Settings) -> str:
    """Look whether each query's checkpoint is whole.

    Raises:
        BadCheckpoint: one is not.
        OSError: HDFS does not answer.
    """
    found = []
    for domain in (build_domain(name, settings) for name in DOMAINS):
        for query, is_kafka in ((domain.bronze_query, True), (domain.refine_query, False)):
            inputs = 1 if is_kafka else len(domain.sources)
            position = _examined(open_folder(settings.checkpoint(query)), query, domain.name, is_kafka, inputs)
            found += [] if position.is_new else [query]
    return f"whole: {', '.join(found)}" if found else "none yet: the first stream makes them"


def _examined(folder: Folder, query: str, domain: str, is_kafka: bool, inputs: int) -> Position:
    try:
        return examine(folder, query, domain, is_kafka, inputs)
    except BadCheckpoint:
        # A running stream may write between two reads. A broken checkpoint fails the second time, too.
        return examine(folder, query, domain, is_kafka, inputs)
