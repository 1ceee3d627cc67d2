"""What does one round of maintenance know for the next?"""

from batch.maintain.maintenance_table import Result, renewed
from batch.maintain.table_health import Figures
from monitoring.table_upkeep import Maintained, maintained_json, maintained_of
from tests.support.snapshots import NOW


def test_what_is_known_goes_on_from_round_to_round() -> None:
    def result(name: str, left: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> Result:
        return Result(name, Figures(), Figures(small_files=4), left=left, failed=failed)

    known = {name: Maintained(9, 1, 1) for name in ("a", "b", "c", "d")}
    found = renewed(known, [result("a"), result("b", left=("x",)), result("c", failed=("x",)), result("e")], ["e"], NOW)
    millis = round(NOW.timestamp() * 1000)
    assert found == {
        "a": Maintained(4, millis, 1),
        "b": Maintained(4, 1, 1),
        "c": Maintained(9, 1, 1),
        "d": Maintained(9, 1, 1),
        "e": Maintained(4, millis, millis),
    }
    assert maintained_of(maintained_json(found)) == found and maintained_of(None) == {}
