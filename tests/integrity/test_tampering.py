"""Whoever can write to all tables, past triggers and constraints, is found out, given one head that was kept elsewhere."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import settings
from sqlalchemy import Connection, Engine

from sa_eventsource.integrity import Discrepancy, Head, TreeComparison, proofs_on, stored_tree, tree_growth
from sa_eventsource.integrity.tree_growth import TreeGrowth
from tests.integrity.proven_log import SIGNING_KEY, fill, grow, tables_of_log
from tests.integrity.tampering import COLUMNS, TAMPERINGS, may_tamper
from tests.integrity.test_comparison import head_of_log

EVENTS = 60
BATCH = 11
STORED_LEVEL = 3
"""So that a small tree has subtrees that are stored."""


@pytest.fixture
def head(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Head:
    """The newest head of a log whose tree has several batches."""
    monkeypatch.setattr(tree_growth, "BATCH", BATCH)
    monkeypatch.setattr(stored_tree, "STORED_LEVEL", STORED_LEVEL)
    monkeypatch.setattr(stored_tree, "_TILE", 1 << STORED_LEVEL)
    fill(postgres_engine, EVENTS, accounts=7)
    grow(postgres_engine)
    return head_of_log(postgres_engine)


def wrong(connection: Connection, head: Head) -> list[Discrepancy]:
    compared = TreeComparison(proofs_on(tables_of_log()), [head], SIGNING_KEY.public_keys())
    return [each for each in compared.discrepancies(connection, lambda _: None) if not each.is_warning]


def grow_again(connection: Connection) -> None:
    """Do in the same transaction what a worker would do next."""
    growth = TreeGrowth(proofs_on(tables_of_log()))
    growth._complete_to = 10**9
    while events := growth._next(connection):
        growth._add(connection, events)


def tampered(engine: Engine, name: str, seed: int) -> Iterator[Connection]:
    with engine.connect() as connection, connection.begin() as transaction:
        may_tamper(connection)
        TAMPERINGS[name](connection, random.Random(seed))
        yield connection
        transaction.rollback()


def is_found(engine: Engine, head: Head, name: str, seed: int) -> bool:
    return all(wrong(connection, head) for connection in tampered(engine, name, seed))


def test_what_was_not_tampered_with_is_sound(postgres_engine: Engine, head: Head) -> None:
    with postgres_engine.connect() as connection:
        assert wrong(connection, head) == []


def test_a_tree_that_has_grown_again_over_what_was_altered_is_found(postgres_engine: Engine, head: Head) -> None:
    for name in ("alter event_data", "empty the log", "cut off the tail, and the tree"):
        for connection in tampered(postgres_engine, name, 1):
            connection.exec_driver_sql("TRUNCATE merkle_tree")
            grow_again(connection)
            assert len(wrong(connection, head)) == 1, "the stored tree fits, and the head does not"


def test_a_tree_that_has_grown_again_over_the_same_log_is_as_good(postgres_engine: Engine, head: Head) -> None:
    with postgres_engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("TRUNCATE merkle_tree")
        grow_again(connection)
        assert wrong(connection, head) == []
        transaction.rollback()


def test_the_event_that_was_altered_is_named(postgres_engine: Engine, head: Head) -> None:
    for column in COLUMNS:
        for connection in tampered(postgres_engine, f"alter {column}", 2):
            (found,) = wrong(connection, head)
            is_moved = column == "position"
            assert found.subject.startswith("position " if is_moved else "event ")
            altered = "it was altered after it had been put into the tree"
            assert found.message == ("an event that was here is missing" if is_moved else altered)


_MANY = min(10_000, 60 * settings().max_examples)
"""The profile ``thorough`` tries ten thousand, in two and a half minutes."""


@pytest.mark.parametrize("number", [5 * len(TAMPERINGS), pytest.param(_MANY, id="many", marks=pytest.mark.slow)])
def test_random_tampering_is_found(postgres_engine: Engine, head: Head, number: int) -> None:
    kinds = itertools.cycle(TAMPERINGS)
    missed = [
        (name, seed)
        for seed, name in zip(range(1000, 1000 + number), kinds, strict=False)
        if not is_found(postgres_engine, head, name, seed)
    ]
    assert missed == []
