"""A worker adds to no tree but the one that was signed: who can write to the tables gets no signature under what they forged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import ServiceSigningKey, Worker
from sa_eventsource.exceptions import AlteredTreeError, ProofError
from sa_eventsource.integrity import tree_growth
from sa_eventsource.integrity.proofs_of_base import ProofsOfBase, proofs_on
from sa_eventsource.integrity.tree_growth import TreeGrowth, grow_fully
from tests.integrity.proven_log import SIGNING_KEY, VARIABLE, Base, fill, grow, pay_in, sizes, tables_of_log, written
from tests.integrity.tampering import may_tamper
from tests.integrity.test_comparison import compare, head_of_log, said
from tests.waiting import wait_until

ALTER = (
    "UPDATE events SET event_data = jsonb_set(event_data, '{amount}', '7000000') "
    "WHERE position = (SELECT max(position) FROM events)"
)


def tamper(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        may_tamper(connection)
        for each in statements:
            connection.execute(text(each))


@pytest.fixture
def grown(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A log whose tree has three heads, of 4, 8 and 10 events."""
    monkeypatch.setattr(tree_growth, "BATCH", 4)
    fill(postgres_engine, 10)
    grow(postgres_engine)
    assert sizes(postgres_engine) == [4, 8, 10]
    return postgres_engine


@pytest.fixture
def restarted(grown: Engine) -> Iterator[Engine]:
    """The same log, for a worker of another process, which remembers nothing."""
    engine = create_engine(grown.url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("cut", ["tree_size > 4", "true"], ids=["in part", "whole"])
def test_a_tree_that_was_cut_is_not_signed_again(grown: Engine, cut: str) -> None:
    tamper(grown, ALTER, f"DELETE FROM merkle_tree WHERE {cut}")
    left = sizes(grown)
    for _ in range(2):
        with pytest.raises(AlteredTreeError, match="this process has seen the head of 10 events") as caught:
            grow(grown)
        assert (caught.value.tree_size, caught.value.seen_size) == ((left or [0])[-1], 10)
    assert sizes(grown) == left


def test_a_tree_that_another_worker_has_let_grow_again_is_not_added_to(grown: Engine, restarted: Engine) -> None:
    tamper(grown, ALTER, "DELETE FROM merkle_tree WHERE tree_size > 8")
    assert grow(restarted) == 2, "this cannot be told from a worker that was stopped behind 8 events"
    with Session(grown) as session:
        pay_in(session, "new", 1)
        session.commit()
    with pytest.raises(AlteredTreeError, match="another head of 10 events"):
        grow(grown)


def test_workers_of_several_processes_go_on_after_each_other(grown: Engine, restarted: Engine) -> None:
    for number, engine in enumerate([restarted, grown, grown, restarted, restarted, grown]):
        with Session(engine) as session:
            pay_in(session, f"new-{number}", 1)
            session.commit()
        assert grow(engine) == 1
    assert compare(grown, head_of_log(grown)).is_sound


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "UPDATE merkle_tree SET signature = NULL, key_id = NULL WHERE tree_size = 10",
            "it is not signed, and heads before it are",
        ),
        ("UPDATE merkle_tree SET signature = NULL, key_id = NULL WHERE tree_size = 8", "the head of 8 events is not signed"),
        ("UPDATE merkle_tree SET signature = sha512('x') WHERE tree_size = 10", "the signature is not one of the key 'first'"),
        ("UPDATE merkle_tree SET key_id = 'mine' WHERE tree_size = 10", "it is signed with the key 'mine'"),
        ("UPDATE merkle_tree SET made_at = now() WHERE tree_size = 10", "the signature is not one of the key 'first'"),
    ],
    ids=["newest unsigned", "one between unsigned", "signature", "key", "time"],
)
def test_a_worker_that_has_just_begun_asks_who_signed_the_tree(restarted: Engine, statement: str, reason: str) -> None:
    with Session(restarted) as session:
        pay_in(session, "new", 1)
        session.commit()
    tamper(restarted, statement)
    with pytest.raises(AlteredTreeError, match=reason):
        grow(restarted)
    assert sizes(restarted) == [4, 8, 10]


def test_leaves_that_were_forged_below_a_signed_head_are_not_added_to(restarted: Engine) -> None:
    with Session(restarted) as session:
        pay_in(session, "new", 1)
        session.commit()
    tamper(restarted, "UPDATE merkle_tree SET leaf_hashes = overlay(leaf_hashes PLACING sha256('x') FROM 1) WHERE tree_size = 4")
    with pytest.raises(ProofError, match="the stored tree has another root"):
        grow(restarted)


def test_a_key_may_be_changed_while_the_former_one_is_known(restarted: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, keys in enumerate([written("second", b"2") + "," + written("first", b"1"), written("second", b"2")]):
        monkeypatch.setenv(VARIABLE, keys)
        with Session(restarted) as session:
            pay_in(session, f"new-{number}", 1)
            session.commit()
        assert grow(restarted) == 1
    monkeypatch.setenv(VARIABLE, written("third", b"3"))
    with Session(restarted) as session:
        pay_in(session, "last", 1)
        session.commit()
    another = create_engine(restarted.url)
    with pytest.raises(AlteredTreeError, match="keep the former key after the new one"):
        grow(another)
    another.dispose()


def test_a_tree_without_signatures_gets_them_with_the_key(postgres_engine: Engine) -> None:
    unsigned = proofs_on(tables_of_log())
    fill(postgres_engine, 3)
    growth = TreeGrowth(ProofsOfBase(unsigned.tables, unsigned.merkle_tree, unsigned.rewritten_events, None))
    with Session(postgres_engine) as session:
        assert grow_fully(growth, session) == 3
    with Session(postgres_engine) as session:
        pay_in(session, "new", 1)
        session.commit()
    assert grow(postgres_engine) == 1
    assert compare(postgres_engine, head_of_log(postgres_engine), public_keys=SIGNING_KEY.public_keys()).is_sound


def test_a_service_says_which_public_keys_it_has(restarted: Engine) -> None:
    proofs = proofs_on(tables_of_log())
    with Session(restarted) as session:
        pay_in(session, "new", 1)
        session.commit()
    tamper(restarted, "UPDATE merkle_tree SET made_at = now() WHERE tree_size = 10")
    key = ServiceSigningKey(SIGNING_KEY.sign, public_keys=SIGNING_KEY.public_keys)
    growth = TreeGrowth(ProofsOfBase(proofs.tables, proofs.merkle_tree, proofs.rewritten_events, key))
    with Session(restarted) as session, pytest.raises(AlteredTreeError, match="the signature is not one of the key"):
        growth.grow(session)


def test_a_running_worker_says_so_as_an_error(grown: Engine, caplog: pytest.LogCaptureFixture) -> None:
    tamper(grown, ALTER, "DELETE FROM merkle_tree WHERE tree_size > 4")
    with caplog.at_level(logging.ERROR, "sa_eventsource.worker"), Worker(sessionmaker(grown), Base, only=["proofs"]):
        wait_until(lambda: "no events are put into the Merkle tree" in caplog.text)
    assert "this process has seen the head of 10 events" in caplog.text


def test_verifying_names_a_head_that_is_not_signed_behind_signed_ones(grown: Engine) -> None:
    head = head_of_log(grown)
    tamper(grown, "UPDATE merkle_tree SET signature = NULL, key_id = NULL WHERE tree_size = 8")
    assert said(compare(grown, head, public_keys=SIGNING_KEY.public_keys())) == ["proofs: the head of 8 events: it is not signed"]
