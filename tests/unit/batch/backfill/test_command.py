"""What does `weir backfill` say of a domain that it cannot fill?"""

import pytest
import typer

from batch.backfill.command import Wanted, _check


def wanted(domain: str) -> Wanted:
    return Wanted(
        domain, "2024-01-01", "2024-01-31", chunk="month", locations="", override=False, dry_run=False, resume=False, retry_failed=False,
        as_json=False,
    )  # fmt: skip


def test_a_domain_of_dumps_names_the_command_that_publishes_a_past_one() -> None:
    with pytest.raises(typer.BadParameter, match=r"weir produce kaggle --dump PATH --run-date DAY"):
        _check(wanted("kaggle"))


def test_a_domain_without_a_source_is_told_those_that_have_one() -> None:
    with pytest.raises(typer.BadParameter, match="expected one of air_quality"):
        _check(wanted("trades"))
