"""``sa-eventsource show``: an aggregate's history and what each event changed."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, applies
from tests.cli.commands import BASE, call, fail, succeed
from tests.cli.exported_lines import HEADER, line
from tests.cli.logs import imported
from tests.cli.test_events import insert_raw
from tests.orders import Account, Order, Till
from tests.shop import OrderViewed


class CollectionBase(DeclarativeBase):
    """A base of its own."""


class Tagged(DomainEvent):
    """A tag was given."""

    __event_type__ = "show.Tagged"
    name: str


class Collection(AggregateRoot, CollectionBase):
    """Things with tags."""

    last: str
    tags: frozenset[str] = frozenset()

    @applies(Tagged)
    def _tagged(self, event: Tagged) -> None:
        self.tags = self.tags | {event.name}
        self.last = event.name


def shown(engine: Engine, *arguments: str) -> dict[str, Any]:
    """Show an aggregate as JSON."""
    found: dict[str, Any] = json.loads(succeed("show", BASE, *arguments, "--json", engine=engine).stdout)
    return found


def test_each_event_is_shown_with_what_it_changed_and_the_state_in_the_end(log: Engine) -> None:
    lines = succeed("show", BASE, "Order", "o-1", engine=log).stdout.splitlines(keepends=True)
    recorded = [each for each in lines if each.startswith("    recorded 20")]
    assert len(recorded) == 3  # when the test ran
    assert (
        "".join(each for each in lines if each not in recorded)
        == """\
Order o-1

v1  2026-05-04 12:00:00.000Z  shop.OrderPlaced
    metadata METADATA
    status: "draft" → "placed"
    customer_id: null → "c-1"
    total: "0" → "56.90"

v2  2026-05-04 13:00:00.000Z  shop.NoteAdded
    correlation 11111111-2222-4333-8444-555555555555
    causation 00000000-0000-0000-0000-000000000001
    notes: [] → ["ring twice é"]

v3  2026-05-04 14:00:00.000Z  shop.OrderPaid
    correlation 11111111-2222-4333-8444-555555555555
    causation 00000000-0000-0000-0000-000000000001
    status: "placed" → "paid"
    payment_id: null → "p-1"

State at version 3
    status: "paid"
    customer_id: "c-1"
    lines: []
    total: "56.90"
    payment_id: "p-1"
    tracking_number: null
    notes: ["ring twice é"]
""".replace(
            "METADATA",
            # jsonb orders keys by their length
            '{"user": "ann", "reason": "by phone"}' if log.dialect.name == "postgresql" else '{"user":"ann","reason":"by phone"}',
        )
    )


def test_json_holds_events_changes_and_state(log: Engine) -> None:
    history = shown(log, "Order", "o-1")
    assert (history["aggregate_type"], history["aggregate_id"], history["version"]) == ("Order", "o-1", 3)
    assert [event["version"] for event in history["events"]] == [1, 2, 3]
    paid = history["events"][2]
    assert paid["event_data"] == {"payment_id": "p-1"}
    assert paid["changes"] == {
        "status": {"before": "placed", "after": "paid"},
        "payment_id": {"before": None, "after": "p-1"},
    }
    assert history["state"]["notes"] == ["ring twice é"]


@pytest.mark.parametrize(
    "options", [("--version", "2"), ("--at", "2026-05-04T13:00:00Z"), ("--at", "2026-05-04T15:59:00+02:00")], ids=" ".join
)
def test_an_earlier_state_is_shown_as_it_stood(log: Engine, options: tuple[str, ...]) -> None:
    history = shown(log, "Order", "o-1", *options)
    assert history["version"] == 2
    assert history["state"]["status"] == "placed"
    assert history["state"]["notes"] == ["ring twice é"]


def test_every_event_is_replayed_even_behind_a_snapshot(log: Engine) -> None:
    with Session(log) as session:
        account = session.get_one(Account, UUID(int=7))
        for _ in range(6):
            account.deposit(1)
        session.commit()
    history = shown(log, "Account", str(UUID(int=7)))
    assert [event["changes"].get("balance") for event in history["events"]][:3] == [
        None,
        {"before": 0, "after": 1},
        {"before": 1, "after": 2},
    ]
    assert history["state"] == {"owner": "ann", "balance": 7, "is_open": True}


def test_an_id_is_read_as_the_type_that_is_declared(log: Engine) -> None:
    with Session(log) as session:
        till = Till(id=12)
        till.sell("lamp")
        session.add(till)
        session.commit()
    assert shown(log, "Till", "12")["state"] == {"sold": ["lamp"]}
    assert shown(log, "Account", UUID(int=7).hex)["aggregate_id"] == str(UUID(int=7))
    message = fail("show", BASE, "Till", "twelve", engine=log, status=2)
    assert message == "'twelve' cannot be an id of Till: it must be of type int"


def test_an_unknown_type_lists_the_known(log: Engine) -> None:
    message = fail("show", BASE, "Ordre", "o-1", engine=log, status=2)
    start, _, known = message.partition(" there are: ")
    assert start == "there is no aggregate type 'Ordre';"
    assert {"Account", "ExpressOrder", "Order"} <= set(known.split(", "))  # other tests declare more
    assert known.split(", ") == sorted(known.split(", "))
    assert "Order, Till" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("o-9",), "there is no Order 'o-9'"),
        (("o-1", "--version", "4"), "there is no Order 'o-1' at version 4; its last version before that is 3"),
        (("o-9", "--at", "2026-05-04T11:59:59Z"), "there is no Order 'o-9' at 2026-05-04T11:59:59+00:00"),
        (
            ("o-1", "--at", "2026-05-04T11:59:59Z"),
            "there is no Order 'o-1' at 2026-05-04T11:59:59+00:00; its first event occurred at 2026-05-04T12:00:00+00:00",
        ),
    ],
)
def test_what_is_not_there_is_an_error(log: Engine, arguments: tuple[str, ...], message: str) -> None:
    assert fail("show", BASE, "Order", *arguments, engine=log, status=1) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--at", "2026-05-04T12:00:00", "--version", "1"), "pass --at or --version, not both"),
        (("--axis", "recorded"), "--axis recorded says what --at means; pass --at TIME too"),
        (("--at", "2026-05-04T12:00:00"), "--at: '2026-05-04T12:00:00' has no offset"),
    ],
)
def test_a_wrong_call_says_what_to_pass(log: Engine, options: tuple[str, ...], message: str) -> None:
    assert message in fail("show", BASE, "Order", "o-1", *options, engine=log, status=2)


def test_an_event_that_cannot_be_replayed_is_named_behind_those_that_can(log: Engine) -> None:
    insert_raw(log, UUID(int=8), data="{}", event_type="gone.Away", aggregate_type="Order", aggregate_id="o-1", version=4)
    result = call("show", BASE, "Order", "o-1", engine=log)
    assert result.exit_code == 1
    assert "v3 " in result.stdout
    assert result.stderr.startswith(
        f"error: event {UUID(int=8)} has type 'gone.Away' (version 1), which no DomainEvent class declares"
    )


def test_a_hole_in_the_versions_is_an_error(log: Engine) -> None:
    insert_raw(
        log, UUID(int=8), data='{"text": "x"}', event_type="shop.NoteAdded", aggregate_type="Order", aggregate_id="o-1", version=6
    )
    result = call("show", BASE, "Order", "o-1", engine=log)
    assert result.exit_code == 1
    assert "has version 6 where version 4 should follow" in result.stderr


def test_an_event_that_changes_nothing_says_so(log: Engine) -> None:
    with Session(log) as session:
        session.get_one(Order, "o-1").apply_event(OrderViewed())
        session.commit()
    shown_lines = succeed("show", BASE, "Order", "o-1", engine=log).stdout.splitlines()
    at = next(number for number, each in enumerate(shown_lines) if each.startswith("v4 "))
    assert shown_lines[at + 1] == "    no change"


def test_an_id_that_none_can_be_is_refused(log: Engine) -> None:
    assert fail("show", BASE, "Order", "", engine=log, status=2) == "'' cannot be an id of Order: it is empty"


def test_equal_sets_are_no_change(sqlite_engine: Engine) -> None:
    Collection.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        collection = Collection(id="c-1")
        for name in ("b", "a", "b"):
            collection.apply_event(Tagged(name=name))
        session.add(collection)
        session.commit()
    arguments = ("show", "tests.cli.test_show:Collection", "Collection", "c-1")
    found = json.loads(succeed(*arguments, "--json", engine=sqlite_engine).stdout)
    assert [event["changes"] for event in found["events"]] == [
        {"tags": {"before": [], "after": ["b"]}, "last": {"after": "b"}},
        {"tags": {"before": ["b"], "after": ["a", "b"]}, "last": {"before": "b", "after": "a"}},
        {"last": {"before": "a", "after": "b"}},
    ]
    assert 'last: (unset) → "b"' in succeed(*arguments, engine=sqlite_engine).stdout


def test_as_it_was_then_and_as_it_was_known_then(empty: Engine) -> None:
    note = {"event_data": '{"text":"a"}', "recorded_at": '"2026-05-04T12:00:01Z"', "occurred_at": '"2026-05-04T12:00:00Z"'}
    late = note | {"event_data": '{"text":"late"}', "recorded_at": '"2026-05-09T08:00:00Z"'}
    imported(empty, [HEADER, line(1, **note), line(2, **late)])
    at = ("Order", "o-1", "--at", "2026-05-04T12:00:01Z")
    assert shown(empty, *at)["state"]["notes"] == ["a", "late"]
    known = shown(empty, *at, "--axis", "recorded")
    assert (known["version"], known["state"]["notes"]) == (1, ["a"])
    before = ("Order", "o-1", "--at", "2026-05-04T12:00:00Z", "--axis", "recorded")
    message = fail("show", BASE, *before, engine=empty, status=1)
    assert "there is no Order 'o-1' recorded by 2026-05-04T12:00:00+00:00" in message
