"""Proofs of events and of later heads: made from the database, checked without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource.exceptions import ProofError, UncoveredEventError
from sa_eventsource.integrity import (
    ExtensionProof,
    Head,
    InclusionProof,
    async_grow_tree,
    async_newest_head,
    async_prove,
    async_prove_extension,
    newest_head,
    prove,
    prove_extension,
    tree_growth,
    written_public_keys,
)
from tests.cli.commands import call, fail, succeed
from tests.integrity.proven_log import BASE, SIGNING_KEY, VARIABLE, Base, fill, grow, pay_in
from tests.integrity.test_comparison import head_of_log, ids_of


def test_each_event_is_proven_against_each_later_head(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_growth, "BATCH", 100)
    fill(engine, 270)
    grow(engine)
    early = head_of_log(engine)
    with Session(engine) as session:
        pay_in(session, "late", 1, 2, 3)
        session.commit()
    grow(engine)
    ids, keys = ids_of(engine), SIGNING_KEY.public_keys()
    with Session(engine) as session:
        for index in (0, 1, 99, 100, 255, 256, 269, 270, 272):
            proof = prove(session, ids[index], base=Base)
            assert proof.leaf_index == index
            kept = InclusionProof.from_json(json.dumps(proof.to_json()))
            assert kept == proof
            assert kept.check(head_of_log(engine), keys)["event_id"] == str(ids[index])
        against_early = prove(session, ids[3], head=early, base=Base)
        assert against_early.check(early, keys)
        with pytest.raises(ProofError, match="it leads to the head of 273 events, not to the head of 270 events, which was given"):
            prove(session, ids[3], base=Base).check(early)
        with pytest.raises(UncoveredEventError, match="the head of 270 events was made before it"):
            prove(session, ids[270], head=early, base=Base)
        extension = prove_extension(session, early, base=Base)
        assert ExtensionProof.from_json(extension.to_json()).check(early, keys) == head_of_log(engine)


def test_a_proof_that_was_changed_does_not_hold(engine: Engine) -> None:
    fill(engine, 9)
    grow(engine)
    with Session(engine) as session:
        proof = prove(session, ids_of(engine)[2], base=Base)
    for changed in (
        replace(proof, event=proof.event.replace("payment of", "payment to")),
        replace(proof, leaf_index=3),
        replace(proof, leaf_index=9),
        replace(proof, path=proof.path[::-1]),
        replace(proof, path=proof.path[1:]),
        replace(proof, head=replace(proof.head, root=b"x" * 32)),
    ):
        assert changed != proof
        with pytest.raises(ProofError):
            changed.check()
    with pytest.raises(ProofError, match="the signature is not one of the key"):
        replace(proof, head=replace(proof.head, positions_hash=b"x" * 32)).check(public_keys=SIGNING_KEY.public_keys())
    with pytest.raises(ProofError, match="the public keys are those of 'another'"):
        proof.check(public_keys={"another": b"k" * 32})


def test_heads_of_one_size_have_the_same_positions(engine: Engine) -> None:
    fill(engine, 5)
    grow(engine)
    head = head_of_log(engine)
    with Session(engine) as session:
        proof = prove_extension(session, head, base=Base)
    assert proof.check(head) == head
    moved = replace(proof, head=replace(head, positions_hash=b"x" * 32))
    for former in (head, None):
        with pytest.raises(ProofError, match="the head of 5 events has the same events at other positions"):
            moved.check(former)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "sa_eventsource.inclusion_proof", "version": 1}'])
def test_what_is_no_proof_is_refused(text: str) -> None:
    for kind in (InclusionProof, ExtensionProof, Head):
        with pytest.raises(ProofError):
            kind.from_json(text)


def test_what_cannot_be_proven_says_why(postgres_engine: Engine) -> None:
    fill(postgres_engine, 3)
    with Session(postgres_engine) as session:
        assert newest_head(session, base=Base) is None
        with pytest.raises(UncoveredEventError, match="it is not in the tree yet"):
            prove(session, ids_of(postgres_engine)[0], base=Base)
        with pytest.raises(UncoveredEventError, match="the log has no such event"):
            prove(session, uuid4(), base=Base)
    grow(postgres_engine)
    head = head_of_log(postgres_engine)
    with Session(postgres_engine) as session:
        session.execute(text("SET LOCAL session_replication_role = 'replica'"))
        session.execute(text("UPDATE events SET event_type = 'another' WHERE version = 1"))
        with pytest.raises(ProofError, match="it was altered after it had been put into the tree"):
            prove(session, ids_of(postgres_engine)[0], base=Base)
        with pytest.raises(ProofError, match="some were cut off"):
            prove_extension(session, replace(head, tree_size=4), base=Base)
        with pytest.raises(ProofError, match="does not begin with"):
            prove_extension(session, replace(head, root=b"x" * 32), base=Base)
        session.execute(text("UPDATE merkle_tree SET leaf_hashes = ''"))
        with pytest.raises(ProofError, match=r"the stored tree is damaged: leaf \d is missing"):
            prove(session, ids_of(postgres_engine)[1], base=Base)


async def test_asynchronous_sessions_prove_too(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        await session.run_sync(pay_in, "account", 1)
        await session.commit()
        assert await async_grow_tree(session, base=Base) == 1
        head = await async_newest_head(session, base=Base)
        assert head is not None
        event_id = (await session.execute(text("SELECT event_id FROM events"))).scalar_one()
        from uuid import UUID

        proof = await async_prove(session, UUID(str(event_id)), base=Base)
        assert proof.check(head)
        assert (await async_prove_extension(session, head, base=Base)).check(head) == head


def test_proofs_on_the_command_line(engine: Engine, tmp_path: Path) -> None:
    fill(engine, 20)
    assert "no event is in the tree yet" in fail("heads", BASE, engine=engine, status=1)
    succeed("run", BASE, "--once", engine=engine)
    head, proof, keys, extension = (tmp_path / name for name in ("head.json", "proof.json", "keys", "extension.json"))
    head.write_text(succeed("heads", BASE, engine=engine).stdout)
    keys.write_text(call("public-keys", BASE).stdout)
    assert keys.read_text() == written_public_keys(SIGNING_KEY.public_keys())
    event_id = str(ids_of(engine)[7])
    proof.write_text(succeed("prove", BASE, event_id, "--head", str(head), engine=engine).stdout)
    checked = call("check-proof", str(proof), "--head", str(head), "--public-key", str(keys))
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["event_id"] == event_id
    assert checked.stderr.startswith("the proof holds for the head of 20 events of ")
    assert checked.stderr.endswith(", signed with the key 'first'\n")
    assert "who made that head is unknown" in call("check-proof", str(proof)).stderr
    assert call("check-proof", str(head), "--public-key", str(keys)).exit_code == 0
    assert "check its signature with --public-key" in fail("check-proof", str(head), status=2)
    with Session(engine) as session:
        pay_in(session, "later", 1)
        session.commit()
    succeed("run", BASE, "--once", engine=engine)
    extension.write_text(succeed("heads", BASE, "--since", str(head), engine=engine).stdout)
    checked = call("check-proof", str(extension), "--head", str(head), "--public-key", str(keys))
    assert Head.from_json(checked.stdout) == head_of_log(engine)
    proof.write_text(proof.read_text().replace("payment of", "payment to"))
    said = fail("check-proof", str(proof), "--head", str(head), status=1)
    assert said == "the proof does not hold: event, place and path do not lead to the root of the head of 20 events"
    keys.write_text("no keys")
    assert "key 1 of the file" in fail("check-proof", str(proof), "--public-key", str(keys), status=1)
    proof.write_text("no JSON")
    assert fail("check-proof", str(proof), status=1).startswith(f"what is in the file {proof} does not hold: it is not JSON")


def test_verifying_proofs_on_the_command_line(engine: Engine, tmp_path: Path) -> None:
    fill(engine, 20)
    succeed("run", BASE, "--once", engine=engine)
    head, keys = tmp_path / "head.json", tmp_path / "keys"
    head.write_text(succeed("heads", BASE, engine=engine).stdout)
    keys.write_text(call("public-keys", BASE).stdout)
    found = succeed("verify", BASE, "--proofs", "--head", str(head), "--public-key", str(keys), engine=engine).stdout
    assert "in the Merkle tree: 20 events; not yet: 0 events" in found
    assert "nothing is wrong" in found
    assert "--proofs" in fail("verify", BASE, "--head", str(head), engine=engine, status=2)
    wrong = Head.from_json(head.read_text())
    head.write_text(json.dumps(replace(wrong, root=b"x" * 32).to_json()))
    result = call("verify", BASE, "--proofs", "--head", str(head), engine=engine)
    assert result.exit_code == 1
    assert "WRONG   proofs: the head of 20 events: the log up to there is another one" in result.stdout


def test_a_base_whose_key_is_elsewhere_knows_no_public_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "has no proofs" in fail("public-keys", "tests.orders:Base", status=1)
    monkeypatch.setenv(VARIABLE, "")
    assert "has none" in fail("public-keys", BASE, status=1)
