"""How does a batch program leave a live stream the processors? By a low priority, from before its JVM starts."""

import os

NICENESS = 10


def give_way() -> None:
    """Lower the priority of this process, and of what it starts from now on. Where nobody else wants the processors nothing is slower."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
