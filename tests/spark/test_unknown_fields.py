"""Are fields that the contract does not know counted alike in a small micro-batch and in a large one, whatever a message holds?"""

from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

import lakehouse.apply
from lakehouse.codecs.parse import to_bronze
from lakehouse.codecs.unknown_fields import LONGEST_NAME, MOST_NAMES
from lakehouse.counts import Applied
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from tests.support.pipeline import reading

WHOLE = HOURLY.encode(reading())
MESSAGES = [
    WHOLE,
    WHOLE[:-1] + b',"nh3":1.5,"origin":{"pm25":1,"station":"x"}}',
    WHOLE[:-1] + b',"nh3":2.5,"nh3":3}',
    b'{"nh3":null}',
    b'{"' + b"n" * 100 + b'":1}',
    b"{" + b",".join(b'"m%d":1' % n for n in range(MOST_NAMES + 5)) + b"}",
    b'{"lost":1,"cut',
    b'[{"nh3":1}]',
    b'"nh3"',
    b"\xff\xfe\x00",
    b"",
    None,
]


class Seen(Exception):
    """Ends `apply` before it writes."""


@pytest.mark.parametrize("small_rows", [100, 3], ids=["small", "large"])
def test_names_at_the_top_of_a_message_are_counted_once_a_message(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_rows: int
) -> None:
    monkeypatch.setattr(lakehouse.apply, "SMALL_ROWS", small_rows)
    table = pa.table({"value": pa.array(MESSAGES, pa.binary()), "offset": pa.array(range(len(MESSAGES)), pa.int64())})
    messages = spark.createDataFrame(table).selectExpr(
        "value", "'t' AS topic", "0 AS partition", "offset", "TIMESTAMP '2024-07-01 00:00:00' AS timestamp"
    )
    met: list[Applied] = []

    def look(found: Applied) -> None:
        met.append(found)
        raise Seen

    with pytest.raises(Seen):
        domain = build_domain("air_quality", Settings(home=tmp_path))
        lakehouse.apply.apply(to_bronze(messages, HOURLY), domain.sources[0], domain, lakehouse.apply.ApplyOptions(judge=look))
    (found,) = met
    assert found.rows_in == len(MESSAGES) and found.accepted == 3
    few = {f"m{n}": 1 for n in range(MOST_NAMES)}
    assert found.unknown == {"nh3": 3, "origin": 1, "n" * LONGEST_NAME: 1, **few}
