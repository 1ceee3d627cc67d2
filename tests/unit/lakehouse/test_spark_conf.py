"""The driver's JVM has room for compiled code, whatever compilers it is given."""

import re
import subprocess
from pathlib import Path

from lakehouse.machine.java import find_java
from lakehouse.settings import Settings
from lakehouse.spark import SHORT, jvm_conf


def test_one_compiler_has_as_much_room_for_its_code_as_two(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, spark_java_options=SHORT, cds_archive=False)
    options = jvm_conf(settings)["spark.driver.extraJavaOptions"].split()
    room = [one for one in options if one.startswith("-XX:ReservedCodeCacheSize")]
    flags = [str(find_java({}).launcher), *room, SHORT, "-XX:+PrintFlagsFinal", "-version"]
    says = subprocess.run(flags, capture_output=True, text=True, check=True).stdout
    found = re.search(r"ReservedCodeCacheSize\s*=\s*(\d+)", says)
    assert found is not None
    assert int(found[1]) >= 240 << 20, "a backfill beside a stream compiled 70 MB in a minute"
