"""The pages of the schema: what is declared and what is stored, how many events there are, and the picture of the system."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import event_context
from sa_eventsource.browser.event_counts import Count, count_events
from sa_eventsource.browser.system_picture import Picture, picture_of
from sa_eventsource.evolution import Link, declared_system
from sa_eventsource.mapping import tables_of_base
from tests.browser.garage import EVENTS, HOSTILE, Base, Bill, BillSent, open_for_a_day
from tests.browser.visiting import browser_of, visit, words_of

TABLES = tables_of_base("test", Base)


@pytest.fixture
def garage(engine: Engine) -> Engine:
    """A garage at the end of a day."""
    open_for_a_day(engine)
    return engine


def test_events_are_listed_by_type_and_version_with_who_has_to_do_with_them(garage: Engine) -> None:
    words = words_of(visit(browser_of(Base, garage), "/schema"))
    assert (
        "garage.CarBrought 2 v1 1 v2 4 garage.Car read model garage_bays process manager garage.Repair subscription garage.mailer"
    ) in words
    assert "garage.CarWashed 1 1 nothing here reads it" in words
    assert "garage.BroughtAndRepaired v1 1 1 garage.CarBrought , garage.CarRepaired" in words
    assert "garage.SendBill tests.browser.garage.SendBill car" in words
    assert "about" not in words


def test_what_the_log_has_and_nobody_declares_is_marked(garage: Engine) -> None:
    app = browser_of(Base, garage)
    page = visit(app, "/schema")
    words = words_of(page)
    assert "garage.CarBrought garage.RepairBegun 4 " in words
    assert "garage.CarBrought garage.RepairEnded 0 never seen" in words
    assert (
        "garage.BroughtAndRepaired garage.RepairEnded 1 garage.BroughtAndRepaired sa_" in words
    )  # as what it is read as declares it
    assert "not declared" not in words
    with Session(garage) as session:
        cause = session.connection().execute(text("SELECT event_id FROM events WHERE event_type = 'garage.CarWashed'")).scalar()
        brought = session.connection().execute(EVENTS.select().where(EVENTS.c.event_type == "garage.CarBrought")).first()
        assert (cause is not None, brought is not None) == (True, True)
        with event_context(causation_id=brought.event_id):  # type: ignore[union-attr]
            bill = Bill(id="early")
            bill.apply_event(BillSent(car="car-2"))
            session.add(bill)
        session.commit()
    page = visit(app, "/schema")
    assert "garage.CarBrought garage.BillSent 1 not declared" in words_of(page)
    assert 'class="edge not"' in page.text


def test_an_event_has_a_page_with_its_schema_and_how_it_is_read(garage: Engine) -> None:
    app = browser_of(Base, garage, source_link="https://git.example/{path}#L{line}")
    page = visit(app, "/schema/event?type=garage.CarBrought")
    words = words_of(page)
    assert "Somebody has brought a car." in words
    assert "tests.browser.garage.CarBrought" in words
    assert '"plate" : {' in words.replace('"plate": {', '"plate" : {')
    assert "garage.CarBrought v1: with_plate" in words
    assert "garage.BroughtAndRepaired v1: in_two" in words
    assert "plate is set to plate" in words
    assert "garage.Car: Car._brought" in words
    assert "https://git.example/tests/browser/garage.py#L" in page.text
    assert "ignores it" in words_of(visit(app, "/schema/event?type=garage.BillSent"))
    assert visit(app, f"/schema/event?type={HOSTILE}").status_code == 404
    assert visit(app, "/schema/event").status_code == 404


def test_a_base_without_anything_has_a_page(engine: Engine) -> None:
    class Nothing(DeclarativeBase):
        """No aggregate, and no read model."""

    tables_of_base("test", Nothing)
    Nothing.metadata.create_all(engine)
    assert "No events" in words_of(visit(browser_of(Nothing, engine), "/schema"))


def picture(links: list[Link], around: str | None = None) -> Picture:
    """Draw the garage."""
    return picture_of(declared_system(TABLES), links, around)


def test_the_picture_has_each_thing_once_and_none_over_another() -> None:
    drawn = picture([])
    assert sorted((each.kind, each.name) for each in drawn.nodes) == sorted({(each.kind, each.name) for each in drawn.nodes})
    assert {each.kind for each in drawn.nodes} == {
        "aggregate",
        "event",
        "read model",
        "process manager",
        "subscription",
        "publisher",
    }
    places = sorted((each.x, each.y) for each in drawn.nodes)
    for (x1, y1), (x2, y2) in pairwise(places):
        assert x1 != x2 or y2 - y1 >= drawn.node_height
    assert all(0 < each.y < drawn.height and 0 < each.x + each.width < drawn.width for each in drawn.nodes)
    events = {each.x for each in drawn.nodes if each.kind == "event"}
    assert max(each.x for each in drawn.nodes if each.kind == "aggregate") < min(events)
    assert min(each.x for each in drawn.nodes if each.kind == "publisher") > max(events)


def test_a_process_manager_leads_back_to_its_own_events() -> None:
    drawn = picture([])
    (process,) = [each for each in drawn.nodes if each.kind == "process manager"]
    assert set(process.neighbours) == {"garage.CarBrought", "garage.CarRepaired", "garage.RepairBegun", "garage.RepairEnded"}
    assert [each.kind for each in drawn.edges].count("leads to") == 2


def test_the_picture_around_an_event_has_what_leads_to_it_and_what_follows() -> None:
    drawn = picture([Link("garage.BillSent", "garage.CarBrought", 3, "not declared")], around="garage.RepairEnded")
    assert {each.name for each in drawn.nodes} == {"garage.RepairEnded", "garage.Repair", "garage.CarBrought", "garage.CarRepaired"}
    drawn = picture([Link("garage.BillSent", "garage.CarBrought", 3, "not declared")], around="garage.BillSent")
    assert {each.name for each in drawn.nodes} == {"garage.BillSent", "garage.Bill", "garage.publisher", "garage.CarBrought"}


class TestCounting:
    """A log that is too long to be counted for each look at it."""

    @pytest.fixture
    def long(self, postgres_engine: Engine) -> Any:
        """A log of 60,000 events: most of one type, with two versions, and some of types that fewer have."""
        Base.metadata.create_all(postgres_engine)
        with postgres_engine.begin() as connection:
            connection.execute(text(_FILL))
            connection.execute(text("ANALYZE events"))
        with postgres_engine.connect() as connection:
            yield connection

    def test_frequent_types_are_estimated_and_others_counted(self, long: Connection) -> None:
        counts = count_events(long, EVENTS, exactly=False)
        assert counts["garage.CarRepaired", 1] == Count(7, is_exact=True)
        estimated = {key: each for key, each in counts.items() if not each.is_exact}
        assert set(estimated) == {("garage.CarBrought", 1), ("garage.CarBrought", 2)}
        assert [abs(each.number - 24_000) < 2_000 for each in estimated.values()] == [True, True]
        assert [each.number % 1_000 for each in estimated.values()] == [0, 0]
        assert counts["garage.BillSent", 1] == Count(12_000, is_exact=True)

    def test_all_can_be_counted(self, long: Connection) -> None:
        counts = count_events(long, EVENTS, exactly=True)
        assert sum(each.number for each in counts.values()) == 60_000
        assert all(each.is_exact for each in counts.values())

    def test_the_page_says_what_is_an_estimate(self, long: Connection) -> None:
        app = browser_of(Base, long.engine)
        assert re.search(r"v1 about \d\d 000", words_of(visit(app, "/schema")).replace("\u202f", " "))
        assert "about" not in words_of(visit(app, "/schema?exactly=1"))
        assert "v2 about" in words_of(visit(app, "/schema/event?type=garage.CarBrought"))

    def test_an_empty_log_has_no_events(self, postgres_engine: Engine) -> None:
        Base.metadata.create_all(postgres_engine)
        with postgres_engine.connect() as connection:
            assert count_events(connection, EVENTS, exactly=False) == {}


_FILL = """
    INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
    SELECT gen_random_uuid(), 'garage.Car', n::text, 1,
        CASE WHEN n <= 7 THEN 'garage.CarRepaired' WHEN n % 10 < 8 THEN 'garage.CarBrought' ELSE 'garage.BillSent' END,
        CASE WHEN n % 2 = 1 AND n % 10 < 8 AND n > 7 THEN 2 ELSE 1 END, '{"plate": "x"}', now()
    FROM generate_series(1, 60000) n
"""
