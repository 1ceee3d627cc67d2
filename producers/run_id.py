"""Which run sent a message? Each run has a unique name that sorts by time."""

import secrets
from datetime import datetime


def new_run_id(now: datetime) -> str:
    """Name a run by its start and four random hex digits, such as 20260110T073000Z-9f3a."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
