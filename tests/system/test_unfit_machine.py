"""Is a machine that is not fit told in one sentence, before a JVM starts, and does `weir doctor` find it?"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lakehouse.machine.fitness import LEAST_OPEN_FILES

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / "deploy/local/services/recorded/open_meteo.jsonl.gz"
MAY_MOUNT = subprocess.run(["unshare", "-m", "--uts", "true"], capture_output=True, check=False).returncode == 0
# A /tmp of its own that cannot execute. A checkout in /tmp, which this hides, is shown in its place again.
_SHOWN = f'mkdir -p "{ROOT}" && mount --bind /mnt "{ROOT}"'
NO_EXEC = f'mount --bind "{ROOT}" /mnt && mount -t tmpfs -o noexec tmpfs /tmp && {{ [ -e "{ROOT}" ] || {{ {_SHOWN}; }}; }}'
needs_mount = pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount")


def weir(*arguments: str, before: str = ":", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in namespaces of its own, after a line of shell."""
    namespaces = ["unshare", "-m", "--uts"] if MAY_MOUNT else []
    command = [*namespaces, "bash", "-c", f'{before} && exec "$@"', "bash", sys.executable, "-P", "-m", "weir", *arguments]
    given = {**os.environ, "WEIR_OPEN_METEO_URL": "http://127.0.0.1:9", "WEIR_KAFKA_BOOTSTRAP": "127.0.0.1:9", **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, (done.stdout, done.stderr)
    (line,) = done.stderr.strip().splitlines()
    return line


def homes(folder: Path) -> dict[str, tuple[Path, str]]:
    """Homes that cannot be, and what is said of each."""
    (folder / "file").touch()
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "one").symlink_to(folder / "other")
    (folder / "other").symlink_to(folder / "one")
    return {
        "a file": (folder / "file", "file is no folder"),
        "below a file": (folder / "file" / "home", "file is no folder"),
        "a dangling link": (folder / "dangling", "which is not there"),
        "below a dangling link": (folder / "dangling" / "home", "which is not there"),
        "links in a circle": (folder / "one", "its links lead nowhere"),
        "cannot be made": (Path("/proc/home"), "No such file or directory in /proc"),
    }


NOT_HOMES = ["a file", "below a file", "a dangling link", "below a dangling link", "links in a circle", "cannot be made"]


@pytest.mark.parametrize("name", NOT_HOMES)
def test_home_that_cannot_be_is_one_sentence_that_names_write_access(name: str, tmp_path: Path) -> None:
    home, reason = homes(tmp_path)[name]
    said = sentence(weir("stream", "air_quality", "--available-now", WEIR_HOME=str(home)))
    assert said.startswith(f"weir: weir has no write access to its home {home}: ")
    assert reason in said
    assert not (tmp_path / "nothing").exists()


@needs_mount
@pytest.mark.parametrize(("verb", "below"), [("up", ""), ("demo", "/home"), ("doctor", "")])
def test_home_on_a_read_only_mount_is_one_sentence(verb: str, below: str, tmp_path: Path) -> None:
    read_only = f"mount --bind '{tmp_path}' '{tmp_path}' && mount -o remount,ro,bind '{tmp_path}'"
    done = weir(verb, before=read_only, WEIR_HOME=f"{tmp_path}{below}")
    said = done.stdout if verb == "doctor" else sentence(done)
    assert "write access" in said
    assert "Read-only file system" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "allowed"), [("up", 64), ("demo", 256), ("doctor", 64)])
def test_too_few_open_files_are_refused_with_the_number_and_what_raises_it(verb: str, allowed: int, tmp_path: Path) -> None:
    done = weir(verb, before=f"ulimit -n {allowed}", WEIR_HOME=str(tmp_path))
    said = done.stdout if verb == "doctor" else sentence(done)
    assert f"A process may open {allowed} files here, and Kafka and Spark need {LEAST_OPEN_FILES} each. Raise the hard limit" in said
    assert "ulimit -Hn" in said


@needs_mount
def test_tmp_that_cannot_execute_is_refused_where_the_home_cannot_either() -> None:
    said = sentence(weir("up", before=NO_EXEC, WEIR_HOME="/tmp/home"))
    assert "Java loads libraries from it, and neither /tmp nor /tmp/home/run/tmp may execute" in said


@needs_mount
def test_no_java_is_one_sentence_also_where_a_driver_would_start_it(tmp_path: Path) -> None:
    broken = tmp_path / "java-17" / "bin" / "java"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    hidden = "mount -t tmpfs tmpfs /usr/lib/jvm"
    said = sentence(weir("up", before=hidden, WEIR_HOME=str(tmp_path / "home"), JAVA_HOME=str(broken.parents[1])))
    assert said.startswith(f"weir: Java 17 or 21 is needed, found {broken} that does not start (JAVA_HOME={broken.parents[1]})")
    script = (
        "from pathlib import Path; from lakehouse.machine.java import WrongJava; from lakehouse.settings import Settings\n"
        "from lakehouse.spark import open_spark\n"
        f"try: open_spark(Settings(home=Path({str(tmp_path / 'home')!r})), 'test')\nexcept WrongJava as error: print('told')"
    )
    command = ["unshare", "-m", "sh", "-c", f'{hidden} && exec "$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, "JAVA_HOME": str(broken.parents[1])}, capture_output=True, text=True, check=False)
    assert done.stdout == "told\n", done.stderr


def test_driver_whose_jvm_does_not_start_says_so_in_the_jvms_own_words(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from lakehouse.errors import WeirError; from lakehouse.settings import Settings\n"
        "from lakehouse.spark import open_spark\n"
        f"settings = Settings(home=Path({str(tmp_path)!r}), spark_java_options='-Xms9g', spark_driver_memory='600m')\n"
        "try: open_spark(settings, 'test')\nexcept WeirError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout.strip().splitlines()[-1]  # the JVM itself writes to stdout before
    assert said.startswith("Spark's driver did not start: Initial heap size set to a larger value than the maximum heap size. It was")
    assert "WEIR_SPARK_DRIVER_MEMORY=600m, WEIR_SPARK_JAVA_OPTIONS=-Xms9g" in said


# One start of Kafka and one of Spark for all that weir works in spite of.
WORKS_ANYWAY = f"""
hostname no-such-host-xyz
{NO_EXEC}
ulimit -Sn 64
weir() {{ "$PYTHON" -P -m weir "$@"; }}
trap 'weir down >&2' EXIT
weir up --services-only >&2
weir produce open-meteo --replay "$RECORDED" --set responses --since 2024-01-01 --until 2024-01-03 >&2
weir stream air_quality --available-now >&2
weir query "SELECT location_name, count(*) FROM gold.fact_air_quality_hourly JOIN gold.dim_location USING (location_key) GROUP BY ALL"
weir query --json "SELECT location_name FROM lh.gold.dim_location WHERE location_key = 'hanoi'"
weir status >&2
weir doctor
"""


@needs_mount
def test_one_machine_with_all_that_weir_does_without() -> None:
    # The home of pytest lies in /tmp, which the test hides.
    with tempfile.TemporaryDirectory(prefix="weir-", dir="/var/tmp") as folder:
        home = Path(folder) / "Tài liệu (2026)"
        proxy = "http://127.0.0.1:9"
        given = {
            **{"PATH": os.environ["PATH"], "PYTHON": sys.executable, "RECORDED": str(PACKED), "WEIR_HOME": str(home)},
            **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb", "JAVA_HOME": "/nonexistent"},
            **{"http_proxy": proxy, "https_proxy": proxy, "WEIR_OPEN_METEO_URL": "http://127.0.0.1:9"},
            **{"WEIR_BUDGET_PATH": f"{folder}/budget.db", "WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"},
        }
        command = ["unshare", "-m", "--uts", "bash", "-euc", WORKS_ANYWAY]
        done = subprocess.run(command, env=given, capture_output=True, text=True, encoding="ascii", timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "Traceback" not in done.stderr
        assert re.search(r"H\? N\?i +72\n", done.stdout), done.stdout
        assert json.loads(done.stdout[done.stdout.index("[") : done.stdout.index("]") + 1]) == [{"location_name": "Hà Nội"}]
        assert re.findall(r"^note +(host name|temp folder|locale)", done.stdout, re.MULTILINE) == ["host name", "temp folder", "locale"]
        assert "wrong" not in done.stdout
        assert [entry.name for entry in Path(folder).iterdir() if entry.is_dir()] == [home.name], "nothing is written beside the home"
