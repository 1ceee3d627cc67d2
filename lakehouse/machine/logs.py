"""How does a log line look, and where does it go? One place that sets up structlog: text for people or JSON for programs.

It goes to stderr. In a container of YARN it goes to a file of bounded size in the folder that YARN collects: a stream that runs for months
must not fill the node's disk.
"""

import logging
import os
import sys
from logging.handlers import RotatingFileHandler

import structlog

from lakehouse.machine.container import container_of

# In a container: the newest file, and as many older ones beside it [bytes].
CONTAINER_LOG, LOG_BYTES, OLDER_LOGS = "weir.log", 16 * 2**20, 4


def configure_logs(log_format: str, level: str) -> None:
    """Send every log line to where it belongs, in the format and from the level that the settings name."""
    container = container_of(os.environ)
    to_file = container is not None and container.logs is not None and container.logs.is_dir()
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if log_format != "json":
        renderer = structlog.dev.ConsoleRenderer(colors=not to_file and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_FileLogger() if to_file else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


class _FileLogger:
    """Gives structlog the one logger that writes the container's file; a full disk must not end the driver."""

    def __init__(self) -> None:
        container = container_of(os.environ)
        assert container is not None and container.logs is not None
        handler = RotatingFileHandler(container.logs / CONTAINER_LOG, maxBytes=LOG_BYTES, backupCount=OLDER_LOGS, encoding="utf-8")
        self._logger = logging.Logger("weir.container", logging.DEBUG)
        self._logger.addHandler(handler)

    def __call__(self, *_: object) -> logging.Logger:
        return self._logger
