"""What must a node get before it can run weir, and how does it get there once? Two archives on HDFS, named for a hash of what they hold."""

import hashlib
import os
import zipfile
from pathlib import Path

from hdfs_native import Client, WriteOptions

from deploy.local.jars import jars_for
from deploy.yarn.archives import built_once
from lakehouse.storage.hdfs import SCHEME

# The folder of both archives, in the user's home on HDFS.
LIBRARY = ".weir"
_CHUNK = 8 * 2**20


def build_jars_archive(folder: Path) -> Path:
    """Put the jars of Spark and of weir into one file, as `spark.yarn.archive` takes it; one with the same jars is left alone.

    Raises:
        MissingJars: weir's jars are not there, or are others than the locked ones.
    """
    import pyspark

    ours = jars_for("spark")
    jars = {jar.name: jar for jar in (*sorted((Path(pyspark.__file__).resolve().parent / "jars").glob("*.jar")), *ours)}
    digest = hashlib.sha256()
    for name, jar in sorted(jars.items()):
        with jar.open("rb") as content:
            digest.update(f"{name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())

    def write(path: Path) -> None:
        # Stored, since a jar is packed already.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
            for name, jar in sorted(jars.items()):
                packed.write(jar, name)

    return built_once(folder, "weir-jars", digest.hexdigest()[:16], ".zip", write)


def upload_once(client: Client, file: Path, folder: str) -> str:
    """Upload a file whose name tells its content, unless it is there in its whole length; return its URI.

    It may be read by everyone: only then does YARN keep one copy per node for all applications.
    """
    target = f"{folder}/{file.name}"
    if is_there(client, target) and client.get_file_info(target).length == file.stat().st_size:
        return f"{SCHEME}://{target}"
    client.mkdirs(folder, 0o755, create_parent=True)
    # Another program may upload the same file at this moment: each to a name of its own, and the last to be done wins.
    beside = f"{target}.{os.getpid()}.new"
    with file.open("rb") as content, client.create(beside, WriteOptions(permission=0o644, overwrite=True)) as remote:
        while part := content.read(_CHUNK):
            remote.write(part)
    client.rename(beside, target, overwrite=True)
    return f"{SCHEME}://{target}"


def is_there(client: Client, path: str) -> bool:
    """Return whether HDFS has a file or folder."""
    try:
        client.get_file_info(path)
    except FileNotFoundError:
        return False
    return True
