"""A snapshot as a value: the same answers as PostgreSQL's own functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from sa_eventsource.checkpoints import Snapshot


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(4, 40))
    running = tuple(sorted(draw(st.sets(st.integers(3, xmax - 1), max_size=5))))
    return Snapshot(min(running, default=xmax), xmax, running)


def seen_by(snapshot: Snapshot) -> set[int]:
    return {transaction for transaction in range(3, snapshot.xmax) if transaction not in snapshot.running}


@given(snapshots())
def test_it_is_written_as_it_was_read(snapshot: Snapshot) -> None:
    assert Snapshot.parse(str(snapshot)) == snapshot


@given(snapshots(), snapshots())
def test_it_sees_all_of_another_that_ends_no_later_and_has_nothing_more(one: Snapshot, other: Snapshot) -> None:
    assert one.sees_all_of(other) == (one.xmax >= other.xmax and seen_by(one) >= seen_by(other))


@given(snapshots(), st.integers(3, 50))
def test_a_transaction_that_is_taken_out_is_not_seen_and_all_others_are(snapshot: Snapshot, transaction: int) -> None:
    assert seen_by(snapshot.without(transaction)) == seen_by(snapshot) - {transaction}


def test_later_ones_have_a_higher_age() -> None:
    texts = ["10:12:10,11", "11:12:11", "12:12:", "12:15:12,13"]
    ages = [Snapshot.parse(each).age for each in texts]
    assert ages == sorted(set(ages))


def test_it_agrees_with_the_server(postgres_engine: Engine) -> None:
    with postgres_engine.connect() as connection:
        snapshot = Snapshot.parse("8:12:8,10").without(9)
        seen = connection.scalars(
            text("SELECT i FROM generate_series(3, 14) i WHERE pg_visible_in_snapshot(i::text::xid8, CAST(:s AS pg_snapshot))"),
            {"s": str(snapshot)},
        )
        assert set(seen) == seen_by(snapshot)


@pytest.mark.parametrize("wrong", ["", "1:2", "a:b:c"])
def test_what_is_no_snapshot_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        Snapshot.parse(wrong)
