"""A worker that is killed while it puts events into the tree leaves a tree that fits, and another one goes on at once."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from sa_eventsource.integrity import grow_tree, tree_growth
from tests.integrity.proven_log import Base, fill, grow
from tests.integrity.test_comparison import compare, head_of_log
from tests.integrity.test_tree_growth import leaves_of, tree_of
from tests.proofs.cutting import Child, Cut, Points

EVENTS = 40


def _grow(points: Points, url: str) -> None:
    tree_growth.BATCH = 7
    engine = create_engine(url)
    points.watch(engine)
    with Session(engine) as session:
        grow_tree(session, base=Base)
    engine.dispose()


@pytest.mark.parametrize("number", [5, 18, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 9, 13, 24, 31, 50))])
def test_a_killed_worker_leaves_a_tree_that_fits(postgres_database_url: str, number: int) -> None:
    engine = create_engine(postgres_database_url)
    fill(engine, EVENTS)
    for cut in itertools.chain([Cut(number)], [Cut(1, "COMMIT sent")]):
        with Child(_grow, postgres_database_url, cuts=(cut,)) as child:
            child.until_it_stops()
            child.kill()
        tree_of(engine)  # each head fits the leaves before it
    grow(engine)
    assert tree_of(engine) == leaves_of(engine)
    assert compare(engine, head_of_log(engine)).is_sound
    engine.dispose()
