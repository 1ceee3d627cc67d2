"""What does the metrics page know of a cluster? The deployment reads it; here is its form."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Application:
    """The application that streams a domain; without one, nothing of it.

    Attributes:
        is_running: whether there is one.
        containers: that it has, the driver's among them.
        memory: of all its containers [bytes].
    """

    is_running: bool = False
    containers: int = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """A cluster's state.

    Attributes:
        queue: name of the queue that the settings name.
        queue_used: share of the most memory that it may have which is in use, from 0 to 1.
        applications: by domain.
    """

    queue: str
    queue_used: float
    applications: Mapping[str, Application]
