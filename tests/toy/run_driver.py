"""The toy's driver as a process, for tests that kill it: `python -m tests.toy.run_driver`, with the settings of the environment."""

from lakehouse.settings import Settings
from streaming.driver import Driver
from streaming.metrics_report import report_batch
from tests.toy.tables import TOY


def main() -> None:
    """Drain what is there now, and end."""
    driver = Driver("toy", Settings(), report_batch, build=lambda: TOY)
    try:
        driver.run(available_now=True)
    finally:
        driver.close()


if __name__ == "__main__":
    main()
