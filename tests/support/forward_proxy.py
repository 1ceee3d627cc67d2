"""A real forward proxy for tests, with a log that proves which requests went through it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from deploy.local.agent.processes import ProcessKey, kill_group, wait_group_empty

ROOT = Path(__file__).parents[2]


class ForwardProxy:
    """proxy.py in a process of its own; it looks up names that end in .invalid, see `proxy_names`.

    Args:
        folder: where its log lies.
        user, password: that it asks for; none where there is no user.
    """

    def __init__(self, folder: Path, user: str = "", password: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log, self._port_file, self._said = folder / "proxy.log", folder / "port", folder / "proxy.out"
        self._user, self._password = user, password
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port_file.read_text().split()[0]}"

    @property
    def url(self) -> str:
        """As https_proxy has it."""
        user = f"{quote(self._user, safe='')}:{quote(self._password, safe='')}@" if self._user else ""
        return f"http://{user}{self.address}"

    def requests(self) -> list[str]:
        """List the requests that ended since the last call, such as `CONNECT example.org:443`."""
        time.sleep(0.3)  # it writes a line when a connection has closed
        lines = self._log.read_text().splitlines()
        fresh, self._read = lines[self._read :], len(lines)
        return [" ".join(line.split(" - ")[3:]) for line in fresh if "server.access_log" in line]

    def __enter__(self) -> "ForwardProxy":
        ask = ["--basic-auth", f"{self._user}:{self._password}"] if self._user else []
        where = ["--hostname", "127.0.0.1", "--port", "0", "--port-file", str(self._port_file), "--log-file", str(self._log)]
        few = ["--num-workers", "1", "--num-acceptors", "1", "--plugins", "tests.support.proxy_names.Names"]
        without = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", *where, *few, *ask],
                cwd=ROOT,
                env=without,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not (self._port_file.exists() and self._port_file.read_text().strip()):
            assert self._process.poll() is None and time.monotonic() < deadline, self._said.read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        key = ProcessKey.of(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not wait_group_empty(key.pid, 5):
            kill_group(key)
