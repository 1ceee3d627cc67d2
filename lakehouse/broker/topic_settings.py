"""Can weir read a topic that somebody else made? Its settings, against what weir relies on.

- Every message stays until it is read: `cleanup.policy` must not contain `compact`. The key is the place, so compaction keeps the
  last hour of each place and takes the others.
- A message's timestamp is its arrival (`message.timestamp.type=LogAppendTime`): rules, lateness, bronze's days and retention are
  reckoned from it, and a producer's own stamp is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # not in its stubs

from lakehouse.errors import Fatal, LakehouseError

POLICY, STAMP = "cleanup.policy", "message.timestamp.type"
# What weir gives a topic that it makes, whatever the broker's defaults are.
OWN_SETTINGS = {POLICY: "delete", STAMP: "LogAppendTime"}
_NOT_ALLOWED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unfit:
    """One setting that weir cannot work with: what was found, and what that does."""

    setting: str
    found: str
    why: str


class UnfitTopicError(LakehouseError, Fatal):
    """The topic's settings break what weir relies on."""

    def __init__(self, bootstrap: str, topic: str, unfit: Sequence[Unfit]) -> None:
        named = "; ".join(f"{one.setting} is {one.found}, expected {OWN_SETTINGS[one.setting]}" for one in unfit)
        wanted = ",".join(f"{one.setting}={OWN_SETTINGS[one.setting]}" for one in unfit)
        # The command stands early: `weir status` shows the beginning of why a part does not start.
        super().__init__(
            f"Topic {topic}: {named}. Alter it by `kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
            f"--entity-name {topic} --add-config {wanted}` and start again. Nothing was read or published. "
            + " ".join(f"{one.setting}={one.found}: {one.why}." for one in unfit)
        )
        self.unfit = tuple(unfit)


def unfit_settings(settings: Mapping[str, str]) -> list[Unfit]:
    """Find what is wrong with a topic's settings; a setting that the broker does not report counts as right."""
    found = []
    policy, stamp = settings.get(POLICY, ""), settings.get(STAMP, "")
    if "compact" in {part.strip() for part in policy.split(",")}:
        why = (
            "messages are keyed by place, so compaction keeps the last hour of a place and removes those before it; hours that it has "
            "removed are gone from Kafka, and `weir backfill` fetches them from the source again"
        )
        found.append(Unfit(POLICY, policy, why))
    if stamp and stamp != OWN_SETTINGS[STAMP]:
        why = (
            "the stamp is the producer's and says nothing of the arrival, which rules, lateness, partitions and retention are reckoned "
            "from; messages that are in the topic already are read with an unknown arrival"
        )
        found.append(Unfit(STAMP, stamp, why))
    return found


def read_settings(admin: AdminClient, topic: str, seconds: float) -> dict[str, str] | None:
    """Ask for the two settings of a topic; None where the broker does not let us.

    Raises:
        KafkaException: the broker does not answer.
    """
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries = admin.describe_configs([resource], request_timeout=seconds)[resource].result(timeout=2 * seconds)
    except KafkaException as error:
        if error.args[0].code() in _NOT_ALLOWED:
            return None
        raise
    return {name: str(entries[name].value) for name in OWN_SETTINGS if name in entries and entries[name].value is not None}


def check_settings(admin: AdminClient, bootstrap: str, topic: str, seconds: float) -> dict[str, str] | None:
    """Check that weir can work with a topic's settings; None, and a warning, where the broker does not let us look.

    Raises:
        UnfitTopicError: it cannot.
        KafkaException: the broker does not answer.
    """
    settings = read_settings(admin, topic, seconds)
    if settings is None:
        log.warning("the broker does not let weir describe the topic's settings: they are not checked", topic=topic, expected=OWN_SETTINGS)
    elif unfit := unfit_settings(settings):
        raise UnfitTopicError(bootstrap, topic, unfit)
    return settings
