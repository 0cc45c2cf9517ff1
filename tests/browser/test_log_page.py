"""The log: what is found, where it is paged, and what a page asks of the database."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from sa_eventsource.browser import Browser
from sa_eventsource.browser.document_conditions import read_conditions
from sa_eventsource.browser.log_search import Conditions, LogSearch, position_at
from sa_eventsource.browser.pages import log_page
from sa_eventsource.mapping import tables_of_base
from tests import PARTITIONS
from tests.browser.shop import ACCOUNT, CORRELATION, START, sell
from tests.browser.visiting import browser_of, visit
from tests.orders import Base, Order
from tests.statement_log import record_executions

EVENTS = tables_of_base("test", Base).events


@pytest.fixture
def shop(engine: Engine) -> Browser:
    """A browser over a shop's events."""
    Base.metadata.create_all(engine)
    sell(engine)
    return browser_of(Base, engine)


def positions(page: str) -> list[int]:
    """List the positions on a page of the log."""
    return [int(each) for each in re.findall(r'<td class="position"><a [^>]*>(\d+)</a>', page)]


def link(page: str, name: str) -> str:
    """Get the address of a link by its text."""
    found = re.search(rf'href="([^"]+)"[^>]*>{name}</a>', page)
    assert found is not None, page
    return html.unescape(found[1])


def test_pages_lead_to_the_end_and_back(shop: Browser) -> None:
    newest = visit(shop, "/log").text
    older = visit(shop, link(newest, "Older →")).text
    last = visit(shop, link(older, "Older →")).text
    read = positions(newest) + positions(older) + positions(last)
    assert read == list(range(read[0], 0, -1))
    assert 'aria-disabled="true">Older' in last
    assert positions(visit(shop, link(last, "← Newer")).text) == positions(older)
    assert positions(visit(shop, link(older, "← Newer")).text) == positions(newest)


FOUND = {
    "type=shop.OrderShipped": 20,
    "type=shop.OrderShipped&type=shop.NoteAdded": 22,
    "aggregate=Account": 7,
    "aggregate=Order&id=order-004": 3,
    "id=order-004": 3,
    "type=shop.OrderPlaced&where=total > 250": 16,
    "where=total >= 251.0 and total < 500": 9,
    'where=lines.0.sku = "desk" and total > 251.00': 7,
    "where=payment_id = PAY-7703": 1,
    "where=payment_id ~ pay-770": 7,
    "where=carrier != DHL&type=shop.OrderShipped": 0,
    "where=payment_id != null": 30,
    "where=text = 1": 0,
    "metadata=user = bob and reason = web shop": 18,
    f"correlation={CORRELATION}": 7,
    f"aggregate=Account&since={START.date()}&until=2026-05-06T09:30": 3,
    "aggregate=Account&until=2026-05-04": 0,
}


def test_events_are_found(shop: Browser) -> None:
    assert {query: len(positions(visit(shop, f"/log?{query}").text)) for query in FOUND} == FOUND


def test_what_cannot_be_read_is_named_beside_its_field(shop: Browser) -> None:
    for query in (
        "where=total",
        "where=total > 1 or",
        'where="a" = 1',
        "metadata=user",
        "correlation=1",
        "since=yesterday",
        "until=2026-13-01",
        "at=noon",
    ):
        answer = visit(shop, f"/log?{query}")
        assert (answer.status_code, answer.text.count('aria-invalid="true"')) == (200, 1), query


def test_what_no_page_sends_is_refused_and_is_no_fault_of_the_database(shop: Browser) -> None:
    for path in ("/log/news?seen=nothing", "/log/news", "/log?before=-1", "/log?before=99999999999999999999", "/log?after=x"):
        assert visit(shop, path).status_code == 400, path
    for path in ("/log?id=%00", "/log?where=total ~ %00", "/log?since=0001-01-01T00:00%2B14:00", "/stream?type=Order&id=%00"):
        assert visit(shop, path).status_code in (200, 400, 404), path


def test_a_long_filter_is_read_in_the_time_that_it_is_long() -> None:
    gap = " " * 100_000
    found = list(read_conditions(f"a = x{gap}y and b = z{gap}and c = d", "a = 1"))
    assert [(each.path, each.value) for each in found] == [(("a",), f"x{gap}y"), (("b",), "z"), (("c",), "d")]
    with pytest.raises(ValueError, match="is no condition"):
        list(read_conditions(f'a = {"x " * 50_000}"', "a = 1"))


def test_an_address_may_ask_for_so_much_only(shop: Browser) -> None:
    conditions = " and ".join(["total > 1"] * 51)
    assert "There are more than 50 conditions" in visit(shop, "/log", params={"where": conditions}).text
    assert visit(shop, "/log", params={"where": conditions.removesuffix(" and total > 1")}).text.count('aria-invalid="true"') == 0
    assert visit(shop, "/log", params={"type": [f"t-{number}" for number in range(51)]}).status_code == 400
    assert visit(shop, "/log", params={"type": [f"t-{number}" for number in range(50)]}).status_code == 200


def test_a_text_of_more_digits_than_a_number_has_does_not_stop_a_search(shop: Browser, engine: Engine) -> None:
    with Session(engine) as session:
        order = Order.place("9" * 200_000, order_id="order-digits")
        session.add(order)
        session.commit()
    assert positions(visit(shop, "/log?type=shop.OrderPlaced&where=customer_id > 1").text) == []


def test_news_since_long_ago_are_counted_so_far_only(shop: Browser, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_page, "_NEWS", 5)
    all_news = "/log/news?seen=" + ("0" if engine.dialect.name == "sqlite" else "1:1:")
    newest = positions(visit(shop, "/log").text)[:5]
    for most, said in ((20, "and more than 15 more events"), (1_000, "and 96 more events")):
        monkeypatch.setattr(log_page, "_MOST_COUNTED", most)
        answer = visit(shop, all_news).text
        assert positions(answer) == newest
        assert re.findall("and [a-z0-9 ]*more events", answer) == [said]


def test_a_moment_leads_to_what_was_recorded_until_then(shop: Browser, engine: Engine) -> None:
    with Session(engine) as session:
        times = session.execute(EVENTS.select().order_by(EVENTS.c.position)).all()
        middle = times[40]
        connection = session.connection()
        found = position_at(connection, EVENTS, middle.recorded_at)
        assert found is not None
        expected = [each.position for each in times if each.recorded_at <= middle.recorded_at]
        assert found == expected[-1]
        assert position_at(connection, EVENTS, times[0].recorded_at - timedelta(days=1)) is None
        assert position_at(connection, EVENTS, times[-1].recorded_at + timedelta(days=1)) == times[-1].position
    shown = positions(visit(shop, "/log", params={"at": middle.recorded_at.isoformat()}).text)
    assert shown[0] == found


def test_news_are_what_was_committed_since(shop: Browser, engine: Engine) -> None:
    page = visit(shop, "/log?live=1&aggregate=Order").text
    news = html.unescape(re.findall(r'hx-get="([^"]+)"', page)[0])
    assert positions(visit(shop, news).text) == []
    with Session(engine) as session:
        session.add(Order.place("c-7"))
        session.commit()
    answer = visit(shop, news).text
    assert len(positions(answer)) == 1
    assert positions(visit(shop, html.unescape(re.findall(r'hx-get="([^"]+)"', answer)[0])).text) == []


def test_hidden_and_hostile_characters_are_written_out(shop: Browser) -> None:
    page = visit(shop, f"/stream?type=Account&id={ACCOUNT}").text + visit(shop, "/log").text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert '<span class="hidden-character">\\u202e</span>gpj.exe' in page


class TestOnPostgreSQL:
    """What only a server's plans and snapshots show."""

    @pytest.fixture
    def many(self, postgres_engine: Engine) -> Iterator[Connection]:
        """A log of 30,000 events, of which the planner knows."""
        Base.metadata.create_all(postgres_engine)
        with postgres_engine.begin() as connection:
            connection.execute(text(_FILL))
            connection.execute(text("ANALYZE events"))
        with postgres_engine.connect() as connection:
            yield connection

    @pytest.mark.parametrize("position", [None, 15_000])
    def test_a_page_reads_its_own_rows_and_no_more(self, many: Connection, position: int | None) -> None:
        with record_executions(many.engine) as executed:
            found = LogSearch(many, EVENTS, Conditions()).before(position)
        assert len(found.events) == 50
        plan = self.plan(many, executed)
        assert "Seq Scan" not in plan
        assert "Sort  (" not in plan
        assert 51 <= rows_read(plan) <= 51 + (PARTITIONS or 0)

    def test_few_events_are_found_by_the_index_of_their_type(self, many: Connection) -> None:
        rare = Conditions(indexed=(EVENTS.c.event_type == "browser.Rare",))
        with record_executions(many.engine) as executed:
            found = LogSearch(many, EVENTS, rare).before(None)
        assert [each.row.position for each in found.events] == [3]
        assert re.search(r"Index Scan (on|using) \w*event_type", self.plan(many, executed))

    def test_a_type_that_ended_long_ago_is_found_without_walking_there(
        self, many: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sa_eventsource.browser.log_search._SECONDS", 0)
        search = LogSearch(many, EVENTS, Conditions(indexed=(EVENTS.c.event_type == "browser.Old",)))
        newest, before = search.before(None), search.before(2453)
        oldest = search.after(0)
        assert [each.row.position for each in newest.events] == list(range(2502, 2452, -1))
        assert [each.row.position for each in before.events] == list(range(2452, 2402, -1))
        assert [each.row.position for each in oldest.events] == [*range(51, 3, -1), 2, 1]
        assert {each.searched_to for each in (newest, before, oldest)} == {None}
        assert search.before(4).has_more is False

    def test_a_search_ends_when_its_time_is_up_and_goes_on(self, many: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sa_eventsource.browser.log_search._SECONDS", 0)
        wanted = Conditions(others=(EVENTS.c.event_data["n"].as_integer() == 3,))
        found = LogSearch(many, EVENTS, wanted).before(None)
        assert (found.events, found.searched_to, found.has_more) == ([], 25_001, True)
        steps, events = 1, list(found.events)
        while found.searched_to is not None:
            found = LogSearch(many, EVENTS, wanted).before(found.searched_to)
            steps += 1
            events += found.events
        assert [each.row.position for each in events] == [3]
        assert steps == 7

    @staticmethod
    def plan(connection: Connection, executed: list[tuple[str, Any]]) -> str:
        """Get the plan of the last statement that was executed, as the server carried it out."""
        statement, parameters = executed[-1]
        rows = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {statement}", parameters)
        return "\n".join(each[0] for each in rows)


_FILL = """
    INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at)
    SELECT gen_random_uuid(), 'Order', n::text, 1,
        CASE WHEN n = 3 THEN 'browser.Rare' WHEN n <= 2502 THEN 'browser.Old' ELSE 'browser.Usual' END,
        jsonb_build_object('n', n), now()
    FROM generate_series(1, 30000) n
"""


def rows_read(plan: str) -> int:
    """How many rows the index scans of a plan gave; of partitions, each gives one ahead."""
    return sum(round(float(each)) for each in re.findall(r"Index Scan.*?actual rows=([\d.]+)", plan))
