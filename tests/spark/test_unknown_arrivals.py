"""Which messages may a topic's retention drop where nobody knows when some arrived?"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from pyspark.sql import SparkSession

from batch.maintain.retention import unknown_arrivals
from batch.table_state import TableState
from lakehouse.codecs.parse import to_bronze
from lakehouse.domains.air_quality.contract import HOURLY, TOPIC
from lakehouse.domains.air_quality.tables import BRONZE
from lakehouse.tables.create import create_missing
from lakehouse.write.fenced_append import FencedAppend
from tests.support.pipeline import reading

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
OLD, YOUNG = SINCE - timedelta(days=9), SINCE + timedelta(days=1)
BY_PRODUCER, BY_BROKER = 0, 1


def test_a_message_with_its_producers_stamp_stays_unless_one_after_it_is_known_to_be_old(session: SparkSession) -> None:
    create_missing(session, [BRONZE])
    messages = [
        *((0, BY_PRODUCER, YOUNG), (0, BY_BROKER, OLD), (0, BY_PRODUCER, OLD), (0, BY_PRODUCER, OLD), (0, BY_BROKER, YOUNG)),
        *((1, BY_PRODUCER, OLD), (1, BY_BROKER, OLD), (1, BY_BROKER, YOUNG)),
        *((2, BY_PRODUCER, OLD), (2, BY_PRODUCER, OLD)),
        *((3, BY_BROKER, OLD), (3, BY_BROKER, YOUNG)),
    ]
    offsets = [sum(p == partition for p, *_ in messages[:n]) for n, (partition, *_) in enumerate(messages)]
    rows = pa.table(
        {
            "value": pa.array([HOURLY.encode(reading("a", n)) for n in range(len(messages))], pa.binary()),
            "topic": pa.array([TOPIC] * len(messages)),
            "partition": pa.array([partition for partition, *_ in messages], pa.int32()),
            "offset": pa.array(offsets, pa.int64()),
            "timestamp": pa.array([stamp for *_, stamp in messages], pa.timestamp("us", "UTC")),
            "timestampType": pa.array([kind for _, kind, _ in messages], pa.int32()),
        }
    )
    FencedAppend(BRONZE, {TOPIC: "one"}).append(to_bronze(session.createDataFrame(rows), HOURLY), {})
    state = TableState.read(session, BRONZE.name)
    assert unknown_arrivals(session, state, TOPIC, SINCE) == {0: 2, 2: 0}
    assert unknown_arrivals(session, state, "another", SINCE) == {}
