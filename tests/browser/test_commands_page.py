"""The pages of commands: which wait, which failed, what each holds, what caused it and what it led to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text, update
from sqlalchemy.orm import Session
from starlette.requests import Request

from sa_eventsource import schedule
from sa_eventsource.browser import Access
from tests.browser.garage import HOSTILE, Base, CallOwner, bring, open_for_a_day
from tests.browser.visiting import browser_of, send, visit, words_of
from tests.orders import Base as Orders

COMMANDS = Base.metadata.tables["commands"]


@pytest.fixture
def garage(engine: Engine) -> Engine:
    """A garage at the end of a day."""
    open_for_a_day(engine)
    return engine


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


def ids_on(page: str) -> list[UUID]:
    """List the commands that a page's table has."""
    return [UUID(each) for each in re.findall(r'class="model-name" href="/commands/([0-9a-f-]{36})', page)]


def test_commands_are_listed_by_status_type_and_process(garage: Engine) -> None:
    app = browser_of(Base, garage)
    found = {
        query: len(ids_on(visit(app, f"/commands?{query}").text))
        for query in (
            "",
            "status=parked",
            "status=done",
            "status=discarded",
            "type=garage.SendBill",
            "status=done&type=garage.SendBill",
            "process=garage.Repair&id=car-2",
            "process=garage.Repair&id=car-9",
        )
    }
    assert list(found.values()) == [5, 1, 2, 0, 0, 2, 1, 0]
    assert visit(app, "/commands?status=lost").status_code == 400
    assert "due in 2 d" in words_of(visit(app, "/commands"))


def test_a_log_without_commands_has_no_page_of_them(engine: Engine) -> None:
    Orders.metadata.create_all(engine)
    assert visit(browser_of(Orders, engine), "/commands").status_code == 404


def test_each_command_is_on_one_page(garage: Engine) -> None:
    with Session(garage) as session:
        for number in range(120):
            due = datetime(2030, 1, 1 + number // 60, tzinfo=UTC)  # sixty at a time
            schedule(session, CallOwner(car=str(number)), at=due, base=Base)
        session.commit()
    app = browser_of(Base, garage)
    for status in ("scheduled", "discarded"):
        read: list[UUID] = []
        address = f"/commands?status={status}"
        while address:
            page = visit(app, address).text
            read += ids_on(page)
            following = re.findall(r'rel="next" href="([^"]+)', page)
            address = following[0].replace("&amp;", "&") if following else ""
        assert (len(read), len(set(read))) == (125, 125)
        with garage.begin() as connection:
            connection.execute(update(COMMANDS).where(COMMANDS.c.status == "scheduled").values(status="discarded"))
    for after in ("after=x", "after=2030-01-01&after=x", f"after=2030-01-01&after={UUID(int=1)}", f"after={UUID(int=1)}"):
        assert visit(app, f"/commands?{after}").status_code == 400


def test_a_page_of_commands_reads_along_an_index(postgres_engine: Engine) -> None:
    """However many are done, those that wait are found without them."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO commands (command_id, command_type, command_data, status, due_at)"
                " SELECT md5(n::text)::uuid, 'garage.CallOwner', '{}', CASE WHEN n % 10 = 0 THEN 'scheduled' ELSE 'done' END,"
                " now() + n * interval '1 minute' FROM generate_series(1, 20000) n"
            )
        )
        connection.exec_driver_sql("ANALYZE commands")
    statements: list[str] = []

    @event.listens_for(postgres_engine, "before_cursor_execute")
    def keep(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "ORDER BY commands.due_at" in statement:
            with postgres_engine.connect() as connection:
                cursor = connection.connection.cursor()
                cursor.execute(f"EXPLAIN {statement}", parameters)
                statements.append("\n".join(row[0] for row in cursor.fetchall()))

    app = browser_of(Base, postgres_engine)
    following = re.findall(r'rel="next" href="([^"]+)', visit(app, "/commands").text)[0].replace("&amp;", "&")
    assert len(ids_on(visit(app, following).text)) == 50
    event.remove(postgres_engine, "before_cursor_execute", keep)
    assert ["Seq Scan on commands" in each for each in statements] == [False, False]


def test_a_command_has_a_page_with_its_cause_and_its_effects(garage: Engine) -> None:
    app = browser_of(Base, garage)
    listed = visit(app, "/commands?type=garage.SendBill&status=done").text
    command_id = next(each for each in ids_on(listed) if "car-1" in visit(app, f"/commands/{each}").text)
    page = visit(app, f"/commands/{command_id}")
    words = words_of(page)
    assert "garage.SendBill done" in words
    assert '"car" : "car-1"' in words.replace('"car":', '"car" :')
    (effect,) = re.findall(r'<li><a href="(/events/[^"]+)"><span class="event-type [^"]*">garage.BillSent', page.text)
    (cause,) = re.findall(r'<dd><a href="(/events/[^"]+)"><span class="event-type [^"]*">garage.CarRepaired', page.text)
    assert visit(app, cause).status_code == 200
    assert f'<a href="/commands/{command_id}">' in visit(app, effect).text
    assert visit(app, f"/commands/{UUID(int=5)}").status_code == 404


def test_what_failed_is_shown_as_text(garage: Engine) -> None:
    app = browser_of(Base, garage)
    (command_id,) = ids_on(visit(app, "/commands?status=parked").text)
    page = visit(app, f"/commands/{command_id}").text
    assert "ValueError: nobody answers &lt;script&gt;" in page
    assert "Traceback (most recent call last)" in page
    assert "\u202e" not in page
    assert "<form" not in page.partition('id="content"')[2]


def test_a_time_out_that_is_due_says_what_it_waits_for(garage: Engine) -> None:
    bring(garage, "car-7", "AB 7")  # which the process manager has yet to take
    with garage.begin() as connection:
        waits = (COMMANDS.c.status == "scheduled", COMMANDS.c.process_id == "car-2")
        connection.execute(update(COMMANDS).where(*waits).values(due_at=datetime.now(UTC)))
    app = browser_of(Base, garage)
    assert "held it has yet to take 1 event" in words_of(visit(app, "/commands"))


def test_commands_are_tried_again_and_discarded(garage: Engine) -> None:
    app = browser_of(Base, garage, actions=True, authorize=allowed)
    (parked,) = ids_on(visit(app, "/commands?status=parked").text)
    page = f"/commands/{parked}"
    again = send(app, "/commands/retry", page=page, id=str(parked))
    assert (again.status_code, again.headers["location"]) == (303, page)
    assert "due for" in words_of(visit(app, page))
    assert send(app, "/commands/retry", page=page, id=str(parked)).status_code == 404
    assert send(app, "/commands/discard", page=page, id=str(parked)).status_code == 303
    assert "discarded" in words_of(visit(app, page))
    waiting = f"/commands/{ids_on(visit(app, '/commands').text)[0]}"
    assert send(app, "/commands/discard", page=waiting, id=str(parked)).status_code == 404
    assert send(app, "/commands/discard", page=waiting, id=HOSTILE).status_code == 400
