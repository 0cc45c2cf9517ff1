"""``sa-eventsource schema``: the file of shapes, the check of what has changed, and the scan of a log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import Session

from sa_eventsource import Worker, event_context
from sa_eventsource.evolution import Mode, changed_defaults, check, document_of
from sa_eventsource.mapping import tables_on
from tests.cli.commands import call, fail
from tests.splitting.kiosk import HISTORY, Base, ItemPaid, Kiosk, store

BASE = "tests.splitting.kiosk:Base"


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.json"
    result = call("schema", BASE, "--file", str(path))
    assert result.exit_code == 0, result.output
    return path


def _digest_like_another(entry: dict[str, Any]) -> None:
    entry["shapes"][-1]["digest"] = "of earlier code"


def _changed(file: Path, event_type: str, version: str, **fields: Any) -> None:
    """Have the file say that earlier code wrote other fields."""
    document = json.loads(file.read_text())
    entry = document["events"][event_type].setdefault(version, document["events"][event_type][max(document["events"][event_type])])
    entry = document["events"][event_type][version] = json.loads(json.dumps(entry))
    written = entry["shapes"][-1]["shape"]["fields"]
    for name, shape in fields.items():
        if shape is None:
            del written[name]
        else:
            written[name] = {"shape": shape, "required": True, "reads": name, "writes": name}
    _digest_like_another(entry)
    file.write_text(json.dumps(document))


def _problems(file: Path, *options: str, status: int = 1) -> list[dict[str, Any]]:
    result = call("schema", "check", BASE, "--file", str(file), "--json", *options)
    assert result.exit_code == status, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["problems"]
    return found


def test_the_file_has_each_event_by_type_and_version(file: Path) -> None:
    document = json.loads(file.read_text())
    paid = document["events"]["kiosk.ItemPaid"]["1"]
    assert paid["class"] == "tests.splitting.kiosk.ItemPaid"
    assert paid["json_schema"]["properties"]["price"]["type"] == "integer"
    assert paid["shapes"][0]["shape"]["fields"]["price"]["shape"] == {"kind": "integer"}
    assert set(document["events"]["kiosk.Opened"]) == {"2"}
    assert document["read_models"]["kiosk_takings"]["fields"]["cash"] == "integer"


def test_what_has_not_changed_fits_and_writing_again_changes_nothing(file: Path) -> None:
    before = file.read_text()
    for mode in Mode:
        assert check(json.loads(before), document_of(tables_on(Base.metadata)), mode) == []
    assert _problems(file, status=0) == []
    assert call("schema", "write", BASE, "--file", str(file)).exit_code == 0
    assert file.read_text() == before


def test_a_new_required_field_needs_a_version_and_an_upcaster(file: Path) -> None:
    _changed(file, "kiosk.ItemPaid", "1", price=None)
    (found,) = _problems(file)
    assert (found["subject"], found["version"], found["path"], found["direction"]) == ("kiosk.ItemPaid", 1, "price", "backward")
    assert "__event_version__ = 2 in ItemPaid" in found["remedy"]
    assert found["code"] == (
        "@upcast(ItemPaid, from_version=1)\ndef item_paid_from_1(payload: dict[str, Any]) -> dict[str, Any]:\n"
        '    payload["price"] = ...  # required now, and not stored before\n    return payload\n'
    )
    compile(found["code"], "pasted", "exec")


def test_a_renamed_field_is_guessed(file: Path) -> None:
    _changed(file, "kiosk.ItemPaid", "1", price=None, cost={"kind": "integer"})
    assert any('payload["price"] = payload.pop("cost")' in each["code"] for each in _problems(file))


def test_what_earlier_code_cannot_read_is_told_forward_only(file: Path) -> None:
    _changed(file, "kiosk.CashAdded", "1", amount={"kind": "integer", "le": 100})
    assert _problems(file, status=0) == []
    (found,) = _problems(file, "--mode", "FORWARD")
    assert (found["direction"], found["path"]) == ("forward", "amount")
    assert _problems(file, "--mode", "full")


def test_only_transitive_modes_look_at_earlier_shapes(file: Path) -> None:
    document = json.loads(file.read_text())
    shapes = document["events"]["kiosk.CashAdded"]["1"]["shapes"]
    earlier = json.loads(json.dumps(shapes[0]))
    earlier["digest"] = "earlier"
    earlier["shape"]["fields"]["amount"]["shape"] = {"kind": "text"}
    shapes.insert(0, earlier)
    file.write_text(json.dumps(document))
    assert _problems(file, "--mode", "BACKWARD", status=0) == []
    assert len(_problems(file, "--mode", "BACKWARD_TRANSITIVE")) == 1


def test_an_older_version_without_a_way_to_the_present_one_is_told(file: Path) -> None:
    _changed(file, "kiosk.Opened", "1", float={"kind": "integer"})
    assert _problems(file, status=0) == [], "it is split"
    document = json.loads(file.read_text())
    document["events"]["kiosk.Gone"] = {"1": document["events"]["kiosk.ItemPaid"]["1"]}
    file.write_text(json.dumps(document))
    (found,) = _problems(file)
    assert (found["subject"], found["reason"]) == ("kiosk.Gone", "no class declares the type any more")
    assert "into=()" in found["code"]


def test_what_cannot_be_told_fails_unless_it_is_allowed(file: Path) -> None:
    _changed(file, "kiosk.CashAdded", "1", amount={"kind": "unknown", "because": "a validator, after", "digest": None})
    (found,) = _problems(file)
    assert found["verdict"] == "unproven"
    assert len(_problems(file, "--allow-unproven", status=0)) == 1


def test_a_default_that_has_changed_is_noted_until_the_file_is_written_again(file: Path) -> None:
    document = json.loads(file.read_text())
    document["events"]["kiosk.ItemTaken"]["1"]["json_schema"]["properties"]["till"]["default"] = "first"
    file.write_text(json.dumps(document))
    result = call("schema", "check", BASE, "--file", str(file))
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert (
        'note kiosk.ItemTaken 1, till: its default was "first" and is "only"; what was stored without the field is read otherwise '
        "than before"
    ) in said
    found = json.loads(call("schema", "check", BASE, "--file", str(file), "--json").stdout)
    assert found["changed_defaults"] == [
        {"subject": "kiosk.ItemTaken", "version": 1, "field": "till", "before": "first", "now": "only"}
    ]
    assert call("schema", "write", BASE, "--file", str(file)).exit_code == 0
    assert "its default" not in call("schema", "check", BASE, "--file", str(file)).stdout


class _Line(BaseModel):
    number: int = 1
    tags: list[str] = Field(default_factory=list)


class _Pack(BaseModel):
    lines: list[_Line] = []
    address: dict[str, str] = {"to": "Ulm", "by": "post"}
    is_gift: bool = False


def test_defaults_are_compared_within_models_and_of_commands() -> None:
    entry = {"json_schema": _Pack.model_json_schema(mode="serialization")}
    now = {"events": {"packed": {"2": entry}}, "commands": {"pack": entry}}
    before = json.loads(json.dumps(now, sort_keys=True))
    assert changed_defaults(before, now) == changed_defaults({"events": {}, "commands": {}}, now) == []
    packed, command = before["events"]["packed"]["2"]["json_schema"], before["commands"]["pack"]["json_schema"]
    packed["$defs"]["_Line"]["properties"]["number"]["default"] = 2
    command["properties"]["is_gift"]["default"] = 0
    assert [(each.subject, each.version, each.field, each.before, each.now) for each in changed_defaults(before, now)] == [
        ("packed", 2, "_Line.number", 2, 1),
        ("pack", None, "is_gift", 0, False),
    ]
    before["events"]["packed"]["2"]["json_schema"] = None  # Pydantic had none
    assert [each.subject for each in changed_defaults(before, now)] == ["pack"]


def test_what_does_not_fit_is_not_written(file: Path) -> None:
    _changed(file, "kiosk.ItemPaid", "1", price=None)
    before = file.read_text()
    result = call("schema", BASE, "--file", str(file))
    assert result.exit_code == 1
    assert "@upcast(ItemPaid, from_version=1)" in result.stdout
    assert file.read_text() == before
    assert call("schema", BASE, "--file", str(file), "--accept").exit_code == 0
    assert len(json.loads(file.read_text())["events"]["kiosk.ItemPaid"]["1"]["shapes"]) == 2


def test_a_file_that_is_none_and_one_that_is_missing_are_told(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    assert "there is no file" in fail("schema", "check", BASE, "--file", str(path), status=2)
    path.write_text("[]")
    assert "was not written by this command" in fail("schema", "check", BASE, "--file", str(path), status=1)
    assert "name one with --log" in fail("schema", "check", BASE, "--sample", "3", status=2)


def _scan(file: Path, engine: Engine, *options: str, status: int) -> dict[str, Any]:
    url = engine.url.render_as_string(hide_password=False)
    result = call("schema", "check", BASE, "--file", str(file), "--log", url, "--json", *options)
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)["log"]
    return found


def test_a_log_that_is_read_is_fine(file: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    with Session(engine) as session:
        session.get_one(Kiosk, "north").apply_event(ItemPaid(item="tea", price=1))
        session.commit()
    found = _scan(file, engine, status=0)
    assert (found["events"], found["read"], found["snapshots"], found["findings"]) == (6, 6, 1, [])


def test_what_a_log_has_and_the_code_cannot_read_is_counted_with_the_first_of_it(file: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
        ids = store(
            connection,
            "south",
            ("kiosk.Unheard", 1, {}),
            ("kiosk.ItemPaid", 1, {"item": "tea", "price": "dear"}),
            ("kiosk.ItemPaid", 1, {"item": "tea", "price": "dear"}),
            ("kiosk.Sold", 1, {"item": "tea"}),
            ("kiosk.ItemPaid", 7, {"item": "tea", "price": 1}),
            ("kiosk.Restocked", 1, {"item": "tea"}),
        )
    found = _scan(file, engine, status=1)
    told = {(each["trouble"], each["subject"], each["version"]): each for each in found["findings"]}
    assert {key: each["count"] for key, each in told.items()} == {
        ("unknown type", "kiosk.Unheard", 1): 1,
        ("unreadable", "kiosk.ItemPaid", 1): 2,
        ("upcaster fails", "kiosk.Sold", 1): 1,
        ("unreadable", "kiosk.ItemPaid", 7): 1,
        ("unhandled", "kiosk.Restocked", 1): 1,
    }
    first = told["unreadable", "kiosk.ItemPaid", 1]["first"]
    assert (first["event_id"], first["aggregate_id"], first["version"]) == (str(ids[1]), "south", 2)
    text = call("schema", "check", BASE, "--file", str(file), "--log", engine.url.render_as_string(hide_password=False))
    assert "kiosk.ItemPaid 1: unreadable, 2 times: price:" in text.stdout


def test_a_sample_has_at_least_the_first_of_each_type(file: Path, engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *[("kiosk.CashAdded", 1, {"amount": 1})] * 40, ("kiosk.Unheard", 1, {}))
    found = _scan(file, engine, "--sample", "4", status=1)
    assert found["events"] == 41
    assert found["read"] < 12
    assert [each["trouble"] for each in found["findings"]] == ["unknown type"]


@pytest.fixture(autouse=True)
def no_database_named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SA_EVENTSOURCE_URL", raising=False)
    yield


def test_the_page_says_who_takes_an_event_and_what_follows_from_it(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        (cause,) = store(connection, "north", ("kiosk.ItemTaken", 1, {"item": "tea", "till": "x"}))
    Worker(engine, Base, only=["kiosk.Restocking"]).run_once()
    with Session(engine) as session, event_context(causation_id=cause):
        session.get_one(Kiosk, "north").apply_event(ItemPaid(item="tea", price=1))
        session.commit()
    path = tmp_path / "events.md"
    url = engine.url.render_as_string(hide_password=False)
    assert call("schema", "docs", BASE, "--output", str(path), "--log", url).exit_code == 0
    page = path.read_text()
    section = page.partition("### kiosk.ItemTaken\n")[2].partition("\n### ")[0]
    assert "| `item` | `str` | yes |" in section
    assert "Applied by: kiosk.Kiosk" in section
    assert "kiosk\\_takings" in section
    assert "Reacted to by: kiosk.Restocking" in section
    assert "| kiosk.ItemTaken | kiosk.Restocked | 1 |  |" in page
    assert "| kiosk.ItemTaken | kiosk.ItemPaid | 1 | **not declared** |" in page
    assert "| kiosk.Sold | 2 |" in page
    assert "```mermaid\nflowchart LR" in page


def test_what_is_declared_and_never_seen_is_marked(engine: Engine) -> None:
    result = call("schema", "docs", BASE, "--log", engine.url.render_as_string(hide_password=False))
    assert "| kiosk.ItemTaken | kiosk.Restocked | 0 | **never seen** |" in result.stdout
    assert "no log was looked at" in call("schema", "docs", BASE).stdout
