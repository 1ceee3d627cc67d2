"""When may Spark start on this machine, and with which further settings?"""

from pathlib import Path

import pytest

from lakehouse.machine.yarn_check import NeedsSubmit, NeedsYarn, check_yarn, without_yarn_check
from lakehouse.settings import Settings
from lakehouse.spark import BadSparkConf, read_spark_conf


def test_a_home_that_requires_yarn_starts_no_spark_here_unless_told_to(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, require_yarn=True)
    with pytest.raises(NeedsYarn, match="--no-yarn-check"):
        check_yarn(settings, False, {})
    check_yarn(without_yarn_check(settings, True), False, {})
    with pytest.raises(NeedsYarn):
        check_yarn(without_yarn_check(settings, False), False, {})
    check_yarn(Settings(home=tmp_path, require_yarn=True, spark_master="yarn"), True, {})


def test_a_driver_for_yarn_needs_the_archive_that_submit_sends(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, spark_master="yarn")
    with pytest.raises(NeedsSubmit, match="weir submit"):
        check_yarn(settings, False, {})
    check_yarn(settings, False, {"spark.yarn.archive": "hdfs:///jars.zip"})
    check_yarn(settings, True, {})


def test_further_settings_of_spark_are_read_as_spark_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "more.conf"
    file.write_text("# a comment\n\nspark.a=1\nspark.b  two words\n  spark.c = x=y \nspark.empty=\n", encoding="utf-8")
    settings = Settings(home=tmp_path, spark_conf_file=str(file))
    assert read_spark_conf(settings) == {"spark.a": "1", "spark.b": "two words", "spark.c": "x=y", "spark.empty": ""}
    assert read_spark_conf(Settings(home=tmp_path)) == {}


@pytest.mark.parametrize("line", ["spark.a", "=1", "hadoop.a=1", "ä ö"])
def test_a_line_that_is_no_setting_is_said_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "more.conf"
    file.write_text(f"spark.a=1\n{line}\n", encoding="utf-8")
    with pytest.raises(BadSparkConf, match="line 2 is"):
        read_spark_conf(Settings(home=tmp_path, spark_conf_file=str(file)))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSparkConf, match="No such file"):
        read_spark_conf(Settings(home=tmp_path, spark_conf_file=str(tmp_path / "none")))
