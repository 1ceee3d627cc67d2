"""Is the peer locked as everything else is?"""

import re

from bench.peer.connect import HERE
from deploy.local.jars import locked_jars


def test_each_jar_of_the_peer_is_locked_with_its_hash() -> None:
    jars = locked_jars(HERE / "jars.lock")
    rows = [line.split() for line in (HERE / "jars.in").read_text().splitlines() if line and not line.startswith("#")]
    assert {(row[0], row[1]) for row in rows} <= {(jar.coordinates, jar.classpath) for jar in jars}
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert not {jar.classpath for jar in jars} & {"spark", "kafka"}


def test_settings_of_the_peer_name_no_other_machine() -> None:
    for file in HERE.glob("*.properties"):
        hosts = re.findall(r"//([^/{}]+)[:/]", file.read_text())
        assert set(hosts) <= {"127.0.0.1", ""}, file.name
