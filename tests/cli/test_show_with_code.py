"""``sa-eventsource show --with``: where states part by other code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tests.cli.commands import call, fail
from tests.replays.other_parcels import REFERENCE, code_of, parcel
from tests.replays.parcels import Base, Parcel, ParcelWeighed

PARCEL = (REFERENCE, "replays.Parcel", "p-1")


@pytest.fixture
def parcels(sqlite_engine: Engine) -> Engine:
    """An engine on a log with a parcel that was heavy once."""
    Base.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        session.add(parcel(500, 2_000, 500))
        session.commit()
    return sqlite_engine


def code(folder: Path, name: str) -> str:
    """Write other code, and name it."""
    file = folder / f"{name}.py"
    file.write_text(code_of(name))
    return f"tests.replays.parcels={file}"


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other code take the time that a busy machine needs."""
    from sa_eventsource.replays import OtherCode

    monkeypatch.setitem(OtherCode.__init__.__kwdefaults__, "seconds", 120.0)  # type: ignore[arg-type]


def test_it_says_where_states_part(parcels: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)
    name = code(tmp_path, "dearer")
    result = call("show", *PARCEL, "--with", name, engine=parcels)
    assert (result.exit_code, result.stdout.splitlines()) == (
        1,
        [
            f"replays.Parcel p-1, and by {name}: {tmp_path / 'dearer.py'}",
            "the states part at version 3 of 4",
            "    price: version 3 alone",
            "        600 → 690",
        ],
    )
    with Session(parcels) as session:
        session.get_one(Parcel, "p-1").apply_event(ParcelWeighed(grams=3_000))
        session.commit()
    assert "    price: version 5 on" in call("show", *PARCEL, "--with", name, engine=parcels).stdout
    found: dict[str, Any] = json.loads(call("show", *PARCEL, "--with", name, "--json", engine=parcels).stdout)
    assert found["differences"] == [
        {"field": "price", "first": 3, "last": 3, "here": 600, "there": 690},
        {"field": "price", "first": 5, "last": 5},
    ]
    assert (found["parted"], found["compared_to"], found["error_there"]) == (3, 5, None)


def test_the_same_states_are_a_success_and_an_error_is_not(
    parcels: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    result = call("show", *PARCEL, "--with", code(tmp_path, "same"), engine=parcels)
    assert (result.exit_code, result.stdout.splitlines()[1:]) == (0, ["the states are the same up to version 4 of 4"])
    name = code(tmp_path, "raising")
    result = call("show", *PARCEL, "--with", name, engine=parcels)
    assert result.exit_code == 1
    assert f"{name} came to version 2 of 4: ValueError: too heavy: \\u202e<b>" in result.stdout
    name = code(tmp_path, "renamed")
    result = call("show", *PARCEL, "--with", name, engine=parcels)
    assert result.exit_code == 0
    assert f"only {name} has: postage" in result.stdout


def test_what_cannot_be_compared_is_refused(parcels: Engine, tmp_path: Path) -> None:
    assert "leave --at and --version out" in fail("show", *PARCEL, "--with", "main", "--version", "1", engine=parcels, status=2)
    assert "pass --with too" in fail("show", *PARCEL, "--code-variable", "A=1", engine=parcels, status=2)
    assert "there is no folder" in fail("show", *PARCEL, "--with", "./nowhere", engine=parcels, status=2)
    assert "no such revision" in fail("show", *PARCEL, "--with", "no-such-revision", engine=parcels, status=1)
