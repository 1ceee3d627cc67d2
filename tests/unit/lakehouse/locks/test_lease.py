"""Can two processes hold one lease? And does a dead one keep it?"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from lakehouse.errors import Retryable
from lakehouse.locks.lease import Holder, Lease, LeaseHeld, LeaseLost, held_lease
from lakehouse.settings import Settings
from lakehouse.tables.catalog import UnreadableCatalog

NAME = "stream air_quality"


@pytest.fixture
def elsewhere() -> Holder:
    """A process of another machine, of which nothing is known here."""
    return Holder("other", "other boot", 1, 0.0)


@pytest.fixture
def ended() -> Iterator[Holder]:
    """A process of this machine that has been killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        import psutil

        holder = replace(Holder.me(), pid=process.pid, created=psutil.Process(process.pid).create_time())
        assert not holder.is_gone()
        process.kill()
        process.wait()
        yield holder


def test_second_holder_is_refused_with_who_holds_it_and_the_way_out(url: str) -> None:
    first, second = Lease(url, NAME), Lease(url, NAME)
    first.acquire()
    with pytest.raises(LeaseHeld) as caught:
        second.acquire()
    assert f"process {os.getpid()} on {Holder.me().host}, started 2" in str(caught.value)
    assert "weir down" in str(caught.value)
    Lease(url, "stream other").acquire()
    first.check()
    first.release()
    second.acquire()


def test_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(url: str, ended: Holder) -> None:
    Lease(url, NAME, ttl_seconds=3600, holder=ended).acquire()
    Lease(url, NAME).acquire()


def test_lease_of_a_process_id_that_is_used_again_is_taken_over_at_once(url: str) -> None:
    Lease(url, NAME, ttl_seconds=3600, holder=replace(Holder.me(), created=1.0)).acquire()
    Lease(url, NAME).acquire()


def test_lease_of_another_machine_is_taken_over_after_its_time_alone(url: str, elsewhere: Holder) -> None:
    Lease(url, NAME, ttl_seconds=3600, holder=elsewhere).acquire()
    with pytest.raises(LeaseHeld, match="process 1 on other"):
        Lease(url, NAME).acquire()
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE weir_leases SET expires_at = 1"))
    Lease(url, NAME).acquire()


def test_who_was_replaced_learns_it_before_its_next_micro_batch(url: str, elsewhere: Holder) -> None:
    slow = Lease(url, NAME, ttl_seconds=0)
    slow.acquire()
    slow.check()  # its time is over, but nobody came: it is ours again
    Lease(url, NAME, holder=elsewhere).acquire()
    for _ in range(2):
        with pytest.raises(LeaseLost, match="process 1 on other"):
            slow.check()
    slow.release()
    with pytest.raises(LeaseHeld):  # what is not ours is not given back
        Lease(url, NAME).acquire()


def test_of_many_that_ask_at_once_one_gets_it(url: str, ended: Holder) -> None:
    Lease(url, NAME, holder=ended).acquire()
    got: list[Lease] = []
    leases = [Lease(url, NAME) for _ in range(8)]

    def ask(lease: Lease) -> None:
        try:
            lease.acquire()
        except LeaseHeld:
            return
        got.append(lease)

    threads = [threading.Thread(target=ask, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].check()


def test_catalog_without_a_database_of_ours_has_no_lease(tmp_path: Path, url: str) -> None:
    with held_lease(Settings(home=tmp_path, catalog_uri="http://127.0.0.1:1"), NAME, lambda _: None) as check:
        check()
    settings = Settings(home=tmp_path, catalog_uri=url)
    with held_lease(settings, NAME, lambda _: None) as check, pytest.raises(LeaseHeld):
        check()
        with held_lease(settings, NAME, lambda _: None):
            raise AssertionError("two hold it")
    with held_lease(settings, NAME, lambda _: None) as check:
        check()


def test_database_that_is_none_is_worth_trying_again(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("not a database, but long enough to be read as the head of one" * 20)
    with pytest.raises(UnreadableCatalog, match="not a database") as caught:
        Lease(f"sqlite:///{tmp_path / 'catalog.db'}", NAME).acquire()
    assert isinstance(caught.value, Retryable)
