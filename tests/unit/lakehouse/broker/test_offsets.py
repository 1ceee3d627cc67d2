"""Is a topic's id the same text, whichever client was asked for it?"""

from uuid import UUID

from confluent_kafka import Uuid
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.broker.offsets import text_of_id


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


@example(UUID(int=(1 << 128) - 1))  # all / in one spelling, all _ in the other
@example(UUID("fbefbefb-efbe-fbef-befb-efbefbefbefb"))  # + and -
@given(st.uuids())
def test_an_id_is_spelled_as_bronze_has_it_from_the_other_client(topic_id: UUID) -> None:
    noted = str(Uuid(signed(topic_id.int >> 64), signed(topic_id.int & ((1 << 64) - 1))))
    assert text_of_id(topic_id) == noted
