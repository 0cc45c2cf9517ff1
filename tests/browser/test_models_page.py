"""The pages of read models: how far they have come, what they are declared to do, their rows, and what they have parked."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from starlette.requests import Request

from sa_eventsource import ReadModelManager, load_for_update
from sa_eventsource.browser import Access, Browser, log_source
from sa_eventsource.browser.rebuilds import Rebuild
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker
from tests.bank import Deposited
from tests.browser.visiting import browser_of, visit, words_of
from tests.projections import bank as bank_module
from tests.projections.bank import Account, Base, Parking, Stopping, deposit, totals


@pytest.fixture
def bank(engine: Engine) -> Engine:
    """A bank with three accounts, one of which holds an amount that some models cannot take."""
    Base.metadata.create_all(engine)
    deposit(engine, "a<b>", 10, 20)
    deposit(engine, "bad", -5, 7)
    with Session(engine) as session:
        for number in range(60):
            account = Account(id=f"c-{number:02}")
            account.apply_event(Deposited(amount=number, branch="main"))
            session.add(account)
        session.commit()
    take_all(engine, "parking")
    return engine


def take_all(engine: Engine, name: str) -> None:
    """Let a model take what it can."""
    Worker(engine, Base, only=[name], retries=RetryPolicy(attempts=1)).run_once()


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


def rows_of(page: str) -> list[str]:
    """The first cell of each row that a page shows."""
    return re.findall(r"<tr><td[^>]*><a[^>]*>(.*?)</a></td>", page.partition('id="rows"')[2])


def test_all_models_are_listed_with_how_far_they_have_come(bank: Engine) -> None:
    page = visit(browser_of(Base, bank), "/models")
    assert page.status_code == 200
    line = page.text.partition('name=parking">')[2].partition("</tr>")[0]
    assert ">running<" in line
    assert re.search(r'class="bad" [^>]*>2<', line)
    behind = page.text.partition('name=stopping">')[2].partition("</tr>")[0]
    assert ">new<" in behind
    assert "64 <span" in behind


def test_rows_are_paged_by_key(bank: Engine) -> None:
    app = browser_of(Base, bank)
    first = visit(app, "/models/one?name=parking").text
    following = re.findall(r'rel="next" href="([^"#]+)', first)
    second = visit(app, following[0].replace("&amp;", "&")).text
    assert len(rows_of(first)) == 50
    assert "a&lt;b&gt;" in rows_of(first)
    assert set(rows_of(first) + rows_of(second)) == {
        each.replace("<", "&lt;").replace(">", "&gt;") for each in totals(bank, Parking)
    }
    assert 'rel="next"' not in second


def test_a_definition_is_said_in_words(bank: Engine) -> None:
    page = re.sub(r"\s+", " ", visit(browser_of(Base, bank), "/models/one?name=declared_parking").text)
    assert "<code>latest</code> is set to amount" in page
    assert "<code>entries</code> grows by 1" in page
    assert '<code>id</code> <span class="quiet">(aggregate_id)</span>' in page


def test_a_parked_event_is_shown_with_its_error_and_payload_and_no_button(bank: Engine) -> None:
    page = visit(browser_of(Base, bank), "/models/one?name=parking").text
    assert "negative: -5" in page
    assert '<span class="j-number">-5</span>' in page
    assert 'method="post"' not in page


def send(app: Any, path: str, **fields: str) -> Any:
    """Send a form as the page has it."""
    token = re.findall(r"sa_eventsource_token=([^;]+)", visit(app, "/models").headers["set-cookie"])[0]
    headers = {"Cookie": f"sa_eventsource_token={token}"}
    return visit(app, path, method="POST", data={"token": token, **fields}, headers=headers)


def test_a_parked_stream_is_tried_again_and_skipped(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    (account,) = re.findall(r'name="type" value="([^"]+)"', visit(app, "/models/one?name=parking").text)[:1]
    stream = {"name": "parking", "type": account, "id": "bad"}
    failed = send(app, "/followers/parked/retry", **stream)
    assert failed.status_code == 409
    assert "negative: -5" in failed.text
    monkeypatch.setattr(bank_module._Refusing, "mended", True)
    assert send(app, "/followers/parked/retry", **stream).status_code == 303
    assert totals(bank, Parking)["bad"] == 2
    assert send(app, "/followers/parked/skip", **stream).status_code == 404


def test_what_a_model_skips_is_parked_no_longer(bank: Engine) -> None:
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    (account,) = re.findall(r'name="type" value="([^"]+)"', visit(app, "/models/one?name=parking").text)[:1]
    assert send(app, "/followers/parked/skip", name="parking", type=account, id="bad").status_code == 303
    assert 'id="parked"' not in visit(app, "/models/one?name=parking").text
    assert "bad" not in totals(bank, Parking)


@pytest.mark.parametrize("action", ["parked/retry", "parked/skip", "resume", "skip"])
def test_an_action_waits_a_while_for_a_lock_and_says_what_to_do(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(log_source, "LONGEST_LOCK_WAIT", 0.02)
    Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "bad", -5)
    take_all(postgres_engine, "parking")
    app = browser_of(Base, postgres_engine, actions=True, authorize=allowed)
    (account,) = re.findall(r'name="type" value="([^"]+)"', visit(app, "/models/one?name=parking").text)[:1]
    stream = {"name": "parking", "type": account, "id": "bad"}
    with postgres_engine.begin() as connection:
        connection.execute(text("SELECT * FROM projection_positions FOR UPDATE"))
        answer = send(app, f"/followers/{action}", **stream)
    assert answer.status_code == 503
    assert "holds a lock that this has to wait for, mostly a worker at its work. Try again in a while." in words_of(answer)
    if action != "parked/retry":
        assert send(app, f"/followers/{action}", **stream).status_code == 303


def test_a_model_that_stopped_is_tried_again(bank: Engine) -> None:
    manager = ReadModelManager(bank, Base)
    take_all(bank, "stopping")
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    before = manager.status(Stopping)[0]
    assert "Try again now" in visit(app, "/models/one?name=stopping").text
    assert send(app, "/followers/resume", name="stopping").status_code == 303
    assert (before.error is not None, manager.status(Stopping)[0].error) == (True, None)


def test_what_is_not_there_is_named(bank: Engine) -> None:
    app = browser_of(Base, bank)
    assert "There is no read model nobody" in visit(app, "/models/one?name=nobody").text
    assert visit(app, "/models/one?name=parking&after=a&after=b").status_code == 400


def test_a_model_is_rebuilt_by_those_alone_who_may_act(bank: Engine) -> None:
    with bank.begin() as connection:
        connection.execute(text("UPDATE parking SET total = 0"))
    looking = browser_of(Base, bank)
    assert "Rebuild" not in visit(looking, "/models/one?name=parking").text
    assert visit(looking, "/models/rebuild?name=parking").status_code == 403
    assert visit(looking, "/models/rebuild", method="POST", data={}).status_code == 405
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    assert "/models/rebuild?name=parking" in visit(app, "/models/one?name=parking").text
    page = visit(app, "/models/rebuild?name=parking").text
    assert "Its handlers run again for every event" in page
    assert 'method="post" action="/models/rebuild"' in page
    assert visit(app, "/models/rebuild", method="POST", data={"name": "parking"}).status_code == 403
    assert totals(bank, Parking)["a<b>"] == 0
    assert send(app, "/models/rebuild", name="nobody").status_code == 404
    assert send(app, "/models/rebuild", name="parking").headers["location"] == "/models/rebuild?name=parking"
    assert rebuild_of(app, "parking").wait(60)
    assert totals(bank, Parking)["a<b>"] == 30
    assert "It was rebuilt from 64 events" in words_of(visit(app, "/models/rebuild?name=parking"))


def rebuild_of(app: Browser, name: str) -> Rebuild:
    """Get the latest rebuild of a model."""
    latest = app.rebuilds.of(app.source.tables.read_models[name], None)
    assert latest is not None
    return latest


def test_while_a_model_is_rebuilt_its_page_says_so_and_shows_the_old_rows(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def load_later(*arguments: Any) -> Any:
        assert goes_on.wait(60)
        return load_for_update(*arguments)

    monkeypatch.setattr(bank_module, "load_for_update", load_later)
    with bank.begin() as connection:
        connection.execute(text("UPDATE parking SET total = 0"))
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    send(app, "/models/rebuild", name="parking")
    under_way = rebuild_of(app, "parking")
    try:
        send(app, "/models/rebuild", name="parking")
        assert rebuild_of(app, "parking") is under_way
        page = visit(app, "/models/rebuild?name=parking")
        assert "It is being rebuilt , since" in words_of(page)
        assert 'hx-trigger="load delay:2s"' in page.text
        assert 'method="post" action="/models/rebuild"' not in page.text
        assert "It is being rebuilt" in words_of(visit(app, "/models/one?name=parking"))
        assert totals(bank, Parking)["a<b>"] == 0
        refused = send(app, "/models/rebuild", name="stopping")
        assert (refused.status_code, "parking is being rebuilt" in words_of(refused)) == (409, True)
        assert "It is being rebuilt" not in words_of(visit(app, "/models/rebuild?name=stopping"))
    finally:
        goes_on.set()
        assert under_way.wait(60)
    assert totals(bank, Parking)["a<b>"] == 30


def test_where_a_rebuild_fails_the_page_says_why_and_the_old_rows_stay(bank: Engine) -> None:
    with bank.begin() as connection:
        connection.execute(text("INSERT INTO stopping (id, total, entries) VALUES ('kept', 1, 1)"))
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    send(app, "/models/rebuild", name="stopping")
    assert rebuild_of(app, "stopping").wait(60)
    words = words_of(visit(app, "/models/rebuild?name=stopping"))
    assert "Rebuilding failed" in words
    assert "negative: -5" in words
    assert totals(bank, Stopping) == {"kept": 1}


def test_a_handler_that_would_end_the_program_fails_the_rebuild_alone(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def exits(*_arguments: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(bank_module, "load_for_update", exits)
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    send(app, "/models/rebuild", name="parking")
    assert rebuild_of(app, "parking").wait(60)
    words = words_of(visit(app, "/models/rebuild?name=parking"))
    assert "Rebuilding failed" in words
    assert "SystemExit: 3" in words


def test_a_rebuild_that_is_interrupted_is_not_shown_as_done(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bank_module, "load_for_update", interrupt)
    app = browser_of(Base, bank)
    rebuild = Rebuild(datetime.now(UTC))
    with pytest.raises(KeyboardInterrupt):
        rebuild.run(app.source, app.source.tables.read_models["parking"], None)
    assert rebuild.wait(0)
    assert rebuild.error is not None


def test_where_no_thread_can_be_started_no_rebuild_has_begun(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    app = browser_of(Base, bank)
    definition = app.source.tables.read_models["parking"]
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            app.rebuilds.begin(definition, None)
    assert app.rebuilds.of(definition, None) is None
    assert app.rebuilds.begin(definition, None).wait(60)
    assert rebuild_of(app, "parking").error is None
