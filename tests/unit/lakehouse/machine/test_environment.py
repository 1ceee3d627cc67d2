"""What of a shell reaches the processes that weir starts?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.machine.environment import adopt_environment, java_option, java_scratch, own_environment, spark_scratch
from tests.support.foreign import foreign_shell


def test_another_spark_hadoop_java_and_python_stay_outside(tmp_path: Path) -> None:
    ours = {"PATH": "/bin", "LANG": "C.UTF-8", "SPARK_MASTER": "local[1]", "HADOOP_USER_NAME": "me"}
    own = own_environment({**foreign_shell(tmp_path), **ours})
    assert Path(own.pop("SPARK_HOME")) == Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages/pyspark").resolve()
    proxies = {name for name in own if "proxy" in name.lower()}
    assert set(own) - proxies == {*ours, "LC_ALL"}
    assert own_environment(own) == own | {"SPARK_HOME": own_environment(own)["SPARK_HOME"]}, "twice is once"


def test_hadoop_of_a_setting_is_the_one_that_counts() -> None:
    own = own_environment({"HADOOP_CONF_DIR": "/shell", "HADOOP_HOME": "/opt/hadoop", "LANG": "C.UTF-8"}, "/etc/hadoop")
    assert (own["HADOOP_CONF_DIR"], own["YARN_CONF_DIR"], own["HADOOP_HOME"]) == ("/etc/hadoop", "/etc/hadoop", "/opt/hadoop")


@pytest.mark.parametrize("shell", [{}, {"LANG": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "de_DE.ISO-8859-1"}, {"LC_ALL": "tr_TR.UTF-8"}])
def test_java_gets_a_locale_with_all_letters_that_is_the_same_everywhere(shell: dict[str, str]) -> None:
    assert own_environment(shell)["LC_ALL"] == "C.UTF-8"


def test_python_path_of_the_shell_is_forgotten(tmp_path: Path) -> None:
    shell = foreign_shell(tmp_path)
    script = (
        "from lakehouse.machine.environment import adopt_environment; adopt_environment()\n"
        "import os, pyspark; print(pyspark.__version__, os.environ.get('PYTHONPATH'), 'SPARK_CONF_DIR' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **shell}, capture_output=True, text=True, check=False)
    assert done.stdout.split()[1:] == ["None", "False"], done.stderr


def test_environment_of_this_process_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SPARK_HOME": "/nowhere", "JAVA_TOOL_OPTIONS": "-Dx"}.items():
        monkeypatch.setenv(name, value)
    adopt_environment()
    assert os.environ["SPARK_HOME"].endswith("pyspark")
    assert "JAVA_TOOL_OPTIONS" not in os.environ


def test_comma_in_the_temporary_folder_is_not_for_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, expected in (("a b", tmp_path / "a b"), ("a,b", Path("/tmp"))):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        assert spark_scratch() == expected


def test_libraries_are_unpacked_where_they_may_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert java_scratch(tmp_path) == Path("/tmp")
    monkeypatch.setattr("lakehouse.machine.environment.may_execute", lambda folder: False)
    assert java_scratch(tmp_path) == tmp_path / "run/tmp"
    assert (tmp_path / "run/tmp").is_dir()


def test_option_of_a_jvm_is_quoted_as_spark_splits_it() -> None:
    assert java_option('-Dx=a "b" \\ c') == '"-Dx=a \\"b\\" \\\\ c"'
