import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import Fatal
from lakehouse.write.fenced_append import Mark, TopicRecreated

TOPIC = "air-quality.hourly.v1"
marks = st.dictionaries(
    st.sampled_from([TOPIC, "market.trades.v1"]),
    st.tuples(st.text(), st.dictionaries(st.integers(0, 500), st.integers(0, 2**63 - 1), min_size=1)),
).map(
    lambda held: Mark(
        {topic: topic_id for topic, (topic_id, _) in held.items()},
        {(topic, partition): offset for topic, (_, offsets) in held.items() for partition, offset in offsets.items()},
    )
)


@given(marks)
def test_mark_reads_back_as_it_was_written(mark: Mark) -> None:
    assert Mark.from_json(mark.to_json()) == mark


def test_mark_is_readable_by_people() -> None:
    written = Mark({TOPIC: "abc"}, {(TOPIC, 1): 5, (TOPIC, 0): 12}).to_json()
    assert json.loads(written) == {TOPIC: {"id": "abc", "next": {"0": 12, "1": 5}}}


def test_mark_rebuilt_from_the_data_knows_no_topic_id_and_refuses_none() -> None:
    mark = Mark.from_json(Mark({}, {(TOPIC, 0): 12}).to_json())
    mark.check_topics({TOPIC: "anything"}, "lh.bronze.open_meteo_hourly")
    Mark().check_topics({TOPIC: "anything"}, "lh.bronze.open_meteo_hourly")


def test_topic_made_again_is_refused_with_both_ids_and_the_way_out() -> None:
    mark = Mark({TOPIC: "old-id"}, {(TOPIC, 0): 12})
    mark.check_topics({TOPIC: "old-id"}, "lh.bronze.open_meteo_hourly")
    with pytest.raises(TopicRecreated) as caught:
        mark.check_topics({TOPIC: "new-id"}, "lh.bronze.open_meteo_hourly")
    said = str(caught.value)
    assert isinstance(caught.value, Fatal)
    assert said.startswith(
        f"lh.bronze.open_meteo_hourly holds offsets of topic {TOPIC} with id old-id, but the broker's topic has id new-id"
    )
    assert "Nothing was written." in said and "WEIR_HOME" in said
