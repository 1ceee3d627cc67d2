"""Turns at a domain's tables: one program at a time, whoever asked first is next, and a killed one holds nobody up."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from lakehouse.locks.table_locks import table_lock
from lakehouse.settings import Settings


def test_one_at_a_time_and_who_waits_is_next(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    order: list[str] = []
    waiting = threading.Event()

    def other() -> None:
        waiting.set()
        with table_lock(settings, "air_quality"):
            order.append("other")

    thread = threading.Thread(target=other)
    with table_lock(settings, "air_quality"):
        thread.start()
        waiting.wait()
        time.sleep(0.2)  # it stands at the door
        assert order == []
        order.append("first")
    with table_lock(settings, "air_quality") as waited:  # asks again at once, and is behind the one that waited
        order.append("again")
    assert waited > 0
    thread.join()
    assert order == ["first", "other", "again"]


def test_another_domain_does_not_wait(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with table_lock(settings, "air_quality"), table_lock(settings, "market"):
        pass


def test_a_killed_program_holds_nobody_up(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from lakehouse.settings import Settings\n"
        "from lakehouse.locks.table_locks import table_lock\n"
        "with table_lock(Settings(home=Path(sys.argv[1])), 'air_quality'): print('in', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    with table_lock(settings, "air_quality"):
        pass


def test_another_home_on_the_same_catalog_waits(tmp_path: Path, url: str) -> None:
    one, two = (Settings(home=tmp_path / name, catalog_uri=url) for name in ("one", "two"))
    done = threading.Event()

    def other() -> None:
        with table_lock(two, "air_quality"):
            done.set()

    thread = threading.Thread(target=other)
    with table_lock(one, "air_quality"):
        thread.start()
        assert not done.wait(0.3)
    thread.join()
    assert done.is_set()
