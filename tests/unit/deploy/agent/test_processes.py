"""Does a process end, with all that it started, and only that?"""

import subprocess
import sys
import time
from pathlib import Path

from deploy.local.agent.processes import ProcessKey, free_ports, kill_group, port_is_free, stop_process
from deploy.local.agent.stack_parts import LOG_BYTES, last_line, rotate

# A parent that ends on SIGTERM, with a child that would write a file if the signal reached it too.
FAMILY = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1], "w").write("SIGTERM"))
print("ready", flush=True)
time.sleep(60)
''', sys.argv[1]])
signal.signal(signal.SIGTERM, lambda *_: (child.kill(), sys.exit(0)) if sys.argv[2] == "obeys" else None)
while True: time.sleep(60)
"""


def family(tmp_path: Path, manner: str) -> tuple[subprocess.Popen[str], ProcessKey]:
    command = [sys.executable, "-c", FAMILY, str(tmp_path / "child-got"), manner]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    time.sleep(0.1)  # the parent sets its handler after it has started the child
    return process, ProcessKey.of(process.pid)


def test_stop_asks_the_leader_alone_and_lets_it_end(tmp_path: Path) -> None:
    process, key = family(tmp_path, "obeys")
    assert stop_process(key, 10)
    assert process.wait() == 0
    assert not (tmp_path / "child-got").exists()


def test_one_that_does_not_end_in_time_is_killed_with_its_group(tmp_path: Path) -> None:
    process, key = family(tmp_path, "ignores")
    assert not stop_process(key, 0.3)
    assert process.wait() == -9
    assert not key.alive()


def test_group_under_an_id_that_another_process_has_by_now_is_spared(tmp_path: Path) -> None:
    process, key = family(tmp_path, "obeys")
    kill_group(ProcessKey(key.pid, key.created - 3600))
    assert key.alive()
    stop_process(key, 10)
    process.wait()


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert all(port_is_free(port) for port in ports)


def test_large_log_is_set_aside_and_two_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "kafka.log"
    rotate(log)
    for name in ("first", "second", "third", "fourth"):
        log.write_bytes(name.encode() + b" " * LOG_BYTES + b"\n")
        rotate(log)
    assert not log.exists()
    assert [last_line(log.with_name(f"kafka.log.{number}"))[:6] for number in (1, 2)] != [""]
    assert sorted(file.name for file in log.parent.iterdir()) == ["kafka.log.1", "kafka.log.2"]


def test_last_line_says_when_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert (last_line(tmp_path / "empty.log"), last_line(tmp_path / "none.log")) == ("its log is empty", "its log cannot be read")
