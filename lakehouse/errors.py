"""What can go wrong, and does trying again help?

Every error of weir is a `WeirError` with a message that says what failed, where, what was found against what was expected,
and the next step. Each program has a base class of its own; `Retryable` and `Fatal` are mixed in, so a retry loop asks for
the type and never parses a message.
"""


class WeirError(Exception):
    """Base of all errors that weir raises on purpose; its message is written for the operator."""


class Retryable:
    """Trying again later may help: an outage, a limit, a conflict. The command exits with 75."""


class Fatal:
    """Trying again changes nothing until somebody acts. The command exits with 1."""


class SettingsError(WeirError, Fatal):
    """One or more settings are unknown or have a wrong value; the message names every one of them."""


class LakehouseError(WeirError):
    """Base for tables, catalog and sinks."""


class ProducerError(WeirError):
    """Base for the programs that fetch and publish."""


class StreamError(WeirError):
    """Base for the streaming queries."""


class DeployError(WeirError):
    """Base for starting, stopping and finding the parts on a machine."""
