"""What is said to a cluster: configuration files, the settings of a container, and who may read them. Without a cluster."""

import os
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.yarn.application_conf import (
    ROLLED_LOGS,
    Archives,
    Resources,
    application_conf,
    as_properties,
    cluster_mode_conf,
    settings_for_container,
)
from deploy.yarn.container_logs import new_part
from deploy.yarn.environment_archive import ENTRY, OWN, REPOSITORY, build_archive
from deploy.yarn.errors import HdfsNotWritable, NeedsHdfs, NoKeytab, NoYarn
from deploy.yarn.hadoop_files import Capacity, Ports, write_configuration
from deploy.yarn.manager import site_values
from deploy.yarn.submit import submission, submit
from lakehouse.settings import Settings

STREAM = submission(["air_quality"], ["backfill"], Resources())
HDFS = "hdfs://namenode:8020/weir"


def on_hdfs(home: Path, **more: object) -> Settings:
    places = {name: f"{HDFS}/{name}" for name in ("warehouse_uri", "checkpoints_uri", "state_uri")}
    return Settings(home=home, **{"catalog_uri": "postgresql://weir:s3cret@db/lake", **places, **more})  # type: ignore[arg-type]


def conf_of(settings: Settings, resources: Resources | None = None) -> dict[str, str]:
    wanted, archives = resources or Resources(), Archives("hdfs:///python", "hdfs:///jars")
    return application_conf(settings, wanted, archives, ["air_quality"]) | cluster_mode_conf(settings, wanted)


def test_configuration_files_are_what_they_say_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a <b> & 'c'"
    ports = Ports(*range(20_001, 20_001 + len(Ports.__slots__)))
    write_configuration(folder / "conf", folder / "data", ports, Capacity(4_096, 8))
    for name in ("core-site.xml", "hdfs-site.xml", "yarn-site.xml", "capacity-scheduler.xml"):
        assert ElementTree.parse(folder / "conf" / name).getroot().tag == "configuration"
    assert site_values(folder / "conf" / "core-site.xml")["fs.defaultFS"] == "hdfs://127.0.0.1:20001"
    yarn = site_values(folder / "conf" / "yarn-site.xml")
    assert yarn["yarn.nodemanager.local-dirs"] == str(folder / "data" / "node-local")
    assert (yarn["yarn.nodemanager.resource.memory-mb"], yarn["yarn.nodemanager.pmem-check-enabled"]) == ("4096", "true")


def test_settings_of_a_container_are_those_that_were_set_and_name_nothing_of_this_machine(tmp_path: Path) -> None:
    settings = on_hdfs(tmp_path, open_meteo_api_key="k3y", episode_hours=6, kafka_bootstrap="kafka:9092", hadoop_conf_dir=str(tmp_path))
    said = tomllib.loads(settings_for_container(settings))
    assert str(tmp_path) not in settings_for_container(settings)
    said.pop("spark_java_options", None)  # of the test run
    assert said.pop("spark_master") == "yarn"
    assert said.pop("open_meteo_api_key") == "k3y"
    assert said.pop("catalog_uri") == "postgresql://weir:s3cret@db/lake"
    assert said == {
        "warehouse_uri": f"{HDFS}/warehouse_uri",
        "checkpoints_uri": f"{HDFS}/checkpoints_uri",
        "state_uri": f"{HDFS}/state_uri",
        "episode_hours": 6,
        "kafka_bootstrap": "kafka:9092",
    }
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "weir.toml").write_text(settings_for_container(settings))
    again = Settings(home=tmp_path / "there")
    assert again.catalog_uri == settings.catalog_uri
    assert again.open_meteo_api_key is not None
    assert again.open_meteo_api_key.get_secret_value() == "k3y"


def test_no_secret_stands_in_sparks_configuration(tmp_path: Path) -> None:
    settings = on_hdfs(tmp_path, open_meteo_api_key="k3y")
    conf = conf_of(settings)
    assert not [name for name, value in conf.items() if "k3y" in value or "s3cret" in value]


def test_a_container_has_room_for_heap_duckdb_and_the_rest(tmp_path: Path) -> None:
    conf = conf_of(on_hdfs(tmp_path, duckdb_memory="2GB"))
    assert conf["spark.driver.memory"] == "2g"
    # 2 GB are 1,908 MiB.
    assert conf["spark.driver.memoryOverhead"] == str(1_908 + 1_024)


def test_dynamic_allocation_comes_with_yarns_defaults_alone(tmp_path: Path) -> None:
    few = conf_of(on_hdfs(tmp_path))
    many = conf_of(on_hdfs(tmp_path, enable_yarn_defaults=True))
    assert few["spark.executor.instances"] == "1"
    assert "spark.executor.instances" not in many
    assert many["spark.dynamicAllocation.enabled"] == many["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"


@pytest.mark.parametrize(
    ("places", "named"),
    [
        ({}, "warehouse_uri, checkpoints_uri, state_uri, catalog_uri"),
        ({"warehouse_uri": HDFS, "checkpoints_uri": HDFS, "state_uri": HDFS}, "catalog_uri"),
        ({"warehouse_uri": HDFS, "checkpoints_uri": "/srv/checkpoints", "state_uri": HDFS, "catalog_uri": HDFS}, "checkpoints_uri"),
    ],
    ids=["nothing set", "the embedded catalog", "a path"],
)
def test_a_place_that_no_node_sees_is_refused_before_anything_is_sent(tmp_path: Path, places: dict[str, str], named: str) -> None:
    with pytest.raises(NeedsHdfs, match=f"^{re.escape(named)}: "):
        submit(Settings(home=tmp_path, **places), STREAM)  # type: ignore[arg-type]


def test_a_submission_without_a_cluster_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NoYarn, match="WEIR_HADOOP_CONF_DIR is not set"):
        submit(on_hdfs(tmp_path), STREAM)


@pytest.mark.parametrize(
    ("problem", "step"),
    [
        (
            "SafeModeException: Cannot create file. Name node is in safe mode.\nThe reported blocks",
            "wait until its DataNodes have reported",
        ),
        (
            'RPCError("org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Cannot create x. Name node is in safe mode.\\nIt")',
            "cannot be written: Cannot create x. Name node is in safe mode. The NameNode is in safe mode: wait",
        ),
        ("AccessControlException: Permission denied: user=ann, access=WRITE", "Give this user the right to write there"),
        ("File could only be written to 0 of the 1 minReplication nodes", "Free some space"),
        ("Connection refused (os error 111)", "See that the NameNode runs"),
    ],
    ids=["safe mode", "safe mode, as hdfs-native says it", "permission", "full", "down"],
)
def test_why_hdfs_cannot_be_written_is_said_with_the_next_step(problem: str, step: str) -> None:
    says = str(HdfsNotWritable("state_uri", "hdfs://namenode/state", problem))
    assert step in says
    assert "\n" not in says


def test_the_archive_runs_weir_without_the_python_that_built_it(tmp_path: Path) -> None:
    archive = build_archive(tmp_path / "built")
    assert build_archive(tmp_path / "built") == archive
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "node", filter="data")
    # The folder is another one than it was packed for, and the environment of the caller leads astray.
    astray = {"PATH": os.environ["PATH"], "PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "HOME": str(tmp_path)}
    code = (
        "import sys, lakehouse, pyspark, pyarrow, duckdb, sqlite3, ssl, zoneinfo, weir;"
        "print(*sorted({m.__file__.split('/lib/python')[0] for m in (lakehouse, pyspark, pyarrow, duckdb, ssl)}), sys.prefix)"
    )
    done = subprocess.run(
        [str(tmp_path / "node" / ENTRY), "-c", code], capture_output=True, text=True, cwd=tmp_path, env=astray, check=False
    )
    assert done.stdout.split() == [str(tmp_path / "node")] * 2, done.stderr
    assert not list((tmp_path / "node" / "lib").glob("python*/site-packages/pytest"))


def test_a_submission_is_read_from_what_was_typed() -> None:
    stream = submission(["air_quality", "kaggle", "--available-now"], ["backfill"], Resources())
    assert (stream.arguments, stream.domains) == (("stream", "air_quality", "kaggle", "--available-now"), ("air_quality", "kaggle"))
    assert stream.name == "weir air_quality kaggle --available-now"
    batch = submission(["backfill", "air_quality", "--since", "latest"], ["backfill"], Resources())
    assert (batch.name, batch.domains) == ("weir backfill air_quality --since latest", ())


def test_an_application_is_tagged_with_what_it_streams_and_told_where_java_and_its_key_are(tmp_path: Path) -> None:
    keytab = tmp_path / "weir.keytab"
    conf = conf_of(
        on_hdfs(tmp_path, yarn_java_home="/opt/java17", kerberos_principal="weir@EXAMPLE", kerberos_keytab=str(keytab), yarn_queue="data")
    )
    assert conf["spark.yarn.tags"] == "weir,weir-stream-air_quality"
    assert conf["spark.yarn.appMasterEnv.JAVA_HOME"] == conf["spark.executorEnv.JAVA_HOME"] == "/opt/java17"
    assert (conf["spark.kerberos.principal"], conf["spark.kerberos.keytab"]) == ("weir@EXAMPLE", str(keytab))


def test_a_principal_without_its_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "yarn-site.xml").write_text(
        "<configuration><property><name>yarn.resourcemanager.hostname</name><value>rm</value></property></configuration>"
    )
    with pytest.raises(NoKeytab, match="WEIR_KERBEROS_KEYTAB is not set"):
        submit(on_hdfs(tmp_path, hadoop_conf_dir=str(tmp_path), kerberos_principal="weir@EXAMPLE"), STREAM)


def test_more_settings_of_spark_come_from_a_file_and_those_of_weir_stay(tmp_path: Path) -> None:
    file = tmp_path / "more.conf"
    file.write_text("spark.yarn.queue=theirs\nspark.yarn.historyServer.address=history:18080\n")
    conf = conf_of(on_hdfs(tmp_path, spark_conf_file=str(file)), Resources(queue="ours"))
    assert (conf["spark.yarn.queue"], conf["spark.yarn.historyServer.address"]) == ("ours", "history:18080")


def test_logs_that_yarn_copies_while_the_application_runs_are_those_that_grow_no_more() -> None:
    rolled = re.compile(ROLLED_LOGS)
    assert [name for name in ("weir.log", "weir.log.1", "spark.log", "spark.log.4", "stdout", "stderr") if rolled.fullmatch(name)] == [
        "weir.log.1",
        "spark.log.4",
    ]


def test_only_what_is_new_in_a_log_is_printed_also_when_it_was_rolled() -> None:
    assert new_part("a\nb\n", "") == "a\nb\n"
    assert new_part("a\nb\nc\n", "a\nb\n") == "c\n"
    assert new_part("a\nb\n", "a\nb\n") == ""
    assert new_part("x\ny\n", "a\nb\n") == "x\ny\n"


def test_what_spark_submit_reads_keeps_backslashes() -> None:
    assert as_properties({"spark.b": r"x\d", "spark.a": "1"}) == "spark.a=1\nspark.b=x\\\\d\n"


def test_the_archive_holds_the_folders_of_the_wheel() -> None:
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert list(OWN) == wheel["only-include"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    units = sorted((REPOSITORY / "deploy/yarn/systemd").iterdir())
    for unit in units:
        # systemd looks for the program.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/weir/.venv/bin/weir", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in units)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_without_arguments_says_how_it_is_used() -> None:
    done = subprocess.run([str(REPOSITORY / "deploy/yarn/spark_submit.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "deploy/yarn/spark_submit.sh DOMAIN..." in done.stderr
