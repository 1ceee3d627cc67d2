"""Is the cluster as weir needs it? What `weir doctor` asks of HDFS and YARN where the settings name a cluster."""

import os
from urllib.parse import urlsplit

from deploy.yarn.errors import HdfsNotWritable
from deploy.yarn.manager import Manager
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import client_of

# Above it an application may have to wait for its driver's container.
BUSY_PERCENT = 80.0


def is_on_cluster(settings: Settings) -> bool:
    """Return whether drivers of these settings run on YARN."""
    return settings.spark_master == "yarn"


def hdfs(settings: Settings) -> str:
    """Write a small file into each folder of the settings that is on HDFS, and remove it.

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
    return f"{', '.join(written)} can be written at {urlsplit(settings.warehouse_uri).netloc}"


def yarn(settings: Settings) -> str:
    """Say how full the cluster is, and what of weir runs on it.

    Raises:
        NoYarn: it does not answer.
    """
    manager = Manager(settings)
    used, apps = manager.queue_use(), manager.apps()
    full = f", more than {BUSY_PERCENT:g} %: a new application may have to wait" if used > BUSY_PERCENT else ""
    return f"{used:.0f} % of the cluster's memory is in use{full}; {len(apps)} application(s) of weir run"
