"""``sa-eventsource events``: what is listed, how, and following the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_eventsource.cli.log_reader import LogReader
from sa_eventsource.interrupts import uninterrupted
from sa_eventsource.mapping import tables_on
from tests.cli.commands import BASE, call, fail, start, succeed, url_of
from tests.cli.exported_lines import HEADER, line
from tests.cli.logs import imported
from tests.orders import Account, Base, Order
from tests.session.helpers import note_elsewhere, place_order

_INSERT = """
    INSERT INTO events
        (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, occurred_at {})
    VALUES (:id, :type, :aggregate_id, :version, :event_type, 1, :data, :metadata, '2026-05-04 12:00:00.000000' {})
"""


def insert_raw(
    engine: Engine,
    event_id: UUID,
    *,
    data: str,
    metadata: str | None = None,
    event_type: str = "gone.Away",
    aggregate_type: str = "Gone",
    aggregate_id: str = "x",
    version: int = 1,
) -> None:
    """Store an event as another program would."""
    with engine.begin() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        position = (", position", ", (SELECT coalesce(max(position), 0) + 1 FROM events)") if is_sqlite else ("", "")
        connection.execute(
            text(_INSERT.format(*position)),
            {
                "id": event_id.hex if is_sqlite else event_id,
                "type": aggregate_type,
                "aggregate_id": aggregate_id,
                "version": version,
                "event_type": event_type,
                "data": data,
                "metadata": metadata,
            },
        )


def listed(engine: Engine, *options: str) -> list[dict[str, object]]:
    """List events as JSON."""
    output = succeed("events", BASE, "--json", *options, engine=engine).stdout
    return [json.loads(line, parse_float=Decimal) for line in output.split("\n")[:-1]]


def numbers(engine: Engine, *options: str) -> list[object]:
    """List the positions of the events that are listed."""
    return [event["position"] for event in listed(engine, *options)]


def test_events_come_by_position_with_all_columns(log: Engine) -> None:
    events = listed(log)
    assert [event["position"] for event in events] == [1, 2, 3, 4, 5]
    note = dict(events[1])
    assert isinstance(note.pop("transaction_id"), int)
    recorded_at = datetime.fromisoformat(str(note.pop("recorded_at")))
    assert timedelta(0) <= datetime.now(UTC) - recorded_at < timedelta(minutes=10)
    assert note == {
        "position": 2,
        "event_id": str(UUID(int=2)),
        "aggregate_type": "Order",
        "aggregate_id": "o-1",
        "version": 2,
        "event_type": "shop.NoteAdded",
        "event_version": 1,
        "occurred_at": "2026-05-04T13:00:00+00:00",
        "event_data": {"text": "ring twice é"},
        "metadata": None,
        "correlation_id": "11111111-2222-4333-8444-555555555555",
        "causation_id": str(UUID(int=1)),
    }
    assert events[0]["metadata"] == {"user": "ann", "reason": "by phone"}


def test_lines_for_people_say_what_when_who_and_why(log: Engine) -> None:
    first, second, *_ = succeed("events", BASE, engine=log).stdout.splitlines()
    for expected in ("1 ", "2026-05-04 12:00:00.000Z", "Order o-1 v1", "shop.OrderPlaced", "56.90", '"ann"'):
        assert expected in first
    assert "ring twice é" in second
    assert "correlation 11111111-2222-4333-8444-555555555555" in second
    assert f"causation {UUID(int=1)}" in second
    assert "  recorded 20" in second


def test_the_time_of_recording_is_shown_where_it_is_another(empty: Engine) -> None:
    late = line(1, recorded_at='"2026-05-04T12:00:01.123456Z"')
    imported(empty, [HEADER, late, line(2, recorded_at='"2026-05-04T12:00:01.123455Z"')])
    first, second = succeed("events", BASE, engine=empty).stdout.splitlines()
    assert first.endswith("  recorded 2026-05-04 12:00:01.123Z")
    assert "recorded" not in second


def test_since_and_until_can_mean_the_time_of_recording(empty: Engine) -> None:
    imported(empty, [HEADER, *(line(number, recorded_at=f'"2026-05-0{number}T00:00:00Z"') for number in (1, 2, 3))])
    options = ("--since", "2026-05-02T00:00:00Z", "--until", "2026-05-02T00:00:00Z")
    assert numbers(empty, *options) == []
    assert numbers(empty, *options, "--axis", "recorded") == [2]


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize(
    ("options", "positions"),
    [
        (("--aggregate-type", "Order"), [1, 2, 3]),
        (("--aggregate-type", "Account", "--aggregate-id", "none"), []),
        (("--aggregate-id", str(UUID(int=7))), [4, 5]),
        (("--type", "shop.OrderPaid"), [3]),
        (("--type", "shop.OrderPaid", "--type", "bank.Deposited"), [3, 5]),
        (("--correlation", "11111111-2222-4333-8444-555555555555"), [2, 3]),
        (("--aggregate-type", "Order", "--since", "2026-05-04T15:00:00+02:00"), [2, 3]),
        (("--until", "2026-05-04T13:00:00Z"), [1, 2]),
        (("--after", "3"), [4, 5]),
        (("--limit", "2"), [1, 2]),
        (("--limit", "0"), []),
        (("--after", "1", "--limit", "1"), [2]),
    ],
)
def test_filters_narrow_the_list(log: Engine, options: tuple[str, ...], positions: list[int]) -> None:
    assert numbers(log, *options) == positions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--type", "shop.OrdrPaid"), "event type 'shop.OrdrPaid' is unknown{}; did you mean 'shop.OrderPaid'?"),
        (("--type", "shop.OrderPaid", "--type", "Nothing"), "event type 'Nothing' is unknown{}"),
        (("--aggregate-type", "order"), "aggregate type 'order' is unknown{}; did you mean 'Order'?"),
    ],
)
def test_a_type_that_nobody_knows_is_a_mistake(log: Engine, options: tuple[str, ...], message: str) -> None:
    why = ": no event in the log has it, and no class declares it"
    assert fail("events", BASE, *options, engine=log, status=2) == message.format(why)


def test_a_type_is_known_if_the_log_has_it_or_the_code(empty: Engine) -> None:
    assert listed(empty, "--type", "shop.OrderPaid", "--aggregate-type", "Account") == []
    insert_raw(empty, UUID(int=1), data="{}")
    assert numbers(empty, "--type", "gone.Away", "--aggregate-type", "Gone") == [1]


def test_following_a_type_that_nobody_knows_yet_says_so_and_waits(log: Engine) -> None:
    result = call("events", BASE, "--follow", "--type", "Nothing", "--limit", "0", engine=log)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("note: event type 'Nothing' is unknown")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--since", "2026-05-04T12:00"), "--since: '2026-05-04T12:00' has no offset; write it, such as 2026-05-04T12:00:00+00:00"),
        (("--until", "yesterday"), "--until: 'yesterday' is not a time in ISO 8601"),
        (("--correlation", "abc"), "--correlation: 'abc' is not a UUID"),
        (("--interval", "5"), "pass --follow too"),
    ],
)
def test_values_that_are_none_are_refused(log: Engine, options: tuple[str, ...], message: str) -> None:
    assert message in fail("events", BASE, *options, engine=log, status=2)


def test_events_that_no_class_can_read_are_listed(log: Engine) -> None:
    insert_raw(log, UUID(int=8), data='{"price": 1.10, "big": 123456789012345678901234567890}')
    insert_raw(log, UUID(int=9), data='{"wrong": true}', event_type="shop.OrderPaid", aggregate_id="y")
    unknown, broken = listed(log)[-2:]
    assert unknown["event_type"] == "gone.Away"
    assert unknown["event_data"] == {"price": Decimal("1.10"), "big": 123456789012345678901234567890}
    assert broken["event_data"] == {"wrong": True}
    raw = succeed("events", BASE, "--json", "--after", "5", engine=log).stdout
    assert "1.10" in raw
    assert "123456789012345678901234567890" in raw


def test_what_is_no_json_is_listed_as_text(sqlite_engine: Engine) -> None:
    insert_raw(sqlite_engine, UUID(int=8), data='{"half": "a')
    (event,) = listed(sqlite_engine)
    assert event["event_data"] is None
    assert event["not_json"] == {"event_data": '{"half": "a'}
    assert '{"half": "a' in succeed("events", BASE, engine=sqlite_engine).stdout


def test_control_characters_are_shown_and_not_sent(log: Engine) -> None:
    insert_raw(log, UUID(int=8), data="{}", aggregate_id="\x1b[31mred\nline")
    *_, last = succeed("events", BASE, engine=log).stdout.splitlines()
    assert r"\x1b[31mred\nline" in last


def test_a_reader_that_goes_away_is_no_error(postgres_log: Engine) -> None:
    with Session(postgres_log) as session:
        account = session.get_one(Account, UUID(int=7))
        for _ in range(3000):
            account.deposit(1)
        session.commit()
    process = start("events", BASE, "--json", engine=postgres_log)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["position"] == 1
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, "")


class Follower:
    """A process that follows the log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Read from its stdout."""
        self.process = process

    def next_versions(self, number: int) -> list[tuple[str, int]]:
        """Wait for so many events: id and version of their aggregates."""
        assert self.process.stdout is not None
        found = [json.loads(self.process.stdout.readline()) for _ in range(number)]
        return [(event["aggregate_id"], event["version"]) for event in found]

    def interrupt(self) -> tuple[int, str, str]:
        """Press Ctrl-C: status, the rest of stdout, stderr."""
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


@pytest.fixture
def follow(log: Engine) -> Follower:
    """Follow the orders of a log."""
    process = start("events", BASE, "--json", "--follow", "--interval", "0.05", "--aggregate-type", "Order", engine=log)
    return Follower(process)


@pytest.mark.slow_on_sqlite
def test_following_goes_on_with_what_is_committed_until_interrupted(log: Engine, follow: Follower) -> None:
    assert follow.next_versions(3) == [("o-1", 1), ("o-1", 2), ("o-1", 3)]
    note_elsewhere(log, "o-1")
    assert follow.next_versions(1) == [("o-1", 4)]
    place_order(log, "o-2", notes=2)
    assert follow.next_versions(3) == [("o-2", 1), ("o-2", 2), ("o-2", 3)]
    time.sleep(0.3)
    assert follow.interrupt() == (0, "", "")


def test_following_does_not_pass_over_an_event_that_commits_late(postgres_log: Engine) -> None:
    process = start("events", BASE, "--json", "--follow", "--interval", "0.05", engine=postgres_log)
    follower = Follower(process)
    assert len(follower.next_versions(5)) == 5
    with Session(postgres_log) as slow:
        late = Order.place(order_id="late")  # draws the lower position, and commits behind the other
        slow.add(late)
        slow.flush()
        place_order(postgres_log, "early")
        assert follower.next_versions(1) == [("early", 1)]
        time.sleep(0.3)
        slow.commit()
    assert follower.next_versions(1) == [("late", 1)]
    note_elsewhere(postgres_log, "early")
    assert follower.next_versions(1) == [("early", 2)]
    assert follower.interrupt() == (0, "", "")


def test_following_ends_when_as_many_as_wanted_are_there(postgres_log: Engine) -> None:
    process = start("events", BASE, "--json", "--follow", "--interval", "0.05", "--limit", "6", engine=postgres_log)
    assert len(Follower(process).next_versions(5)) == 5
    place_order(postgres_log, "o-2", notes=3)
    output, errors = process.communicate(timeout=60)
    assert json.loads(output)["aggregate_id"] == "o-2"
    assert (process.returncode, errors) == (0, "")


def test_a_list_without_events_says_so(empty: Engine) -> None:
    listed = succeed("events", BASE, engine=empty)
    assert (listed.stdout, listed.stderr) == ("", "there is no event in the log\n")
    assert succeed("events", BASE, "--aggregate-id", "o-9", engine=empty).stderr == "there is no such event in the log\n"
    for options in (("--json",), ("--limit", "0")):
        assert succeed("events", BASE, *options, engine=empty).output == ""


def test_a_window_is_found_by_its_transactions_and_not_by_a_walk_through_the_log(
    postgres_log: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    events = tables_on(Base.metadata).events
    reader = LogReader(postgres_log, events)
    assert [len(batch) for batch in reader.read()] == [5]
    assert list(reader.read()) == []
    place_order(postgres_log, "o-2", notes=2)
    with statements(postgres_log) as log:
        assert [len(batch) for batch in reader.read()] == [3]
    (reading,) = [statement for statement in log if "pg_snapshot_xmax" in statement]
    assert "LIMIT" not in reading
    assert "SET LOCAL cursor_tuple_fraction = 1" in log


def test_a_long_log_is_read_in_pages_without_a_transaction_between_them(postgres_log: Engine) -> None:
    with Session(postgres_log) as session:
        account = session.get_one(Account, UUID(int=7))
        for _ in range(1100):
            account.deposit(1)
        session.commit()
    sizes = []
    reader = LogReader(postgres_log, tables_on(Base.metadata).events)
    for batch in reader.read():
        sizes.append(len(batch))
        note_elsewhere(postgres_log, "o-1")  # behind what is read, and committed after the reading began
        with postgres_log.connect() as connection:
            others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL"
            assert connection.scalar(text(f"{others} AND backend_type = 'client backend' AND pid <> pg_backend_pid()")) == 0
    assert sizes == [500, 500, 105]
    assert [[row.aggregate_id for row in batch] for batch in reader.read()] == [["o-1"] * 3]
    limited = LogReader(postgres_log, tables_on(Base.metadata).events, remaining=700)
    assert [len(batch) for batch in limited.read()] == [500, 200]
    assert list(limited.follow(0)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_terminal_gets_colours_and_what_is_stored_gives_no_commands(sqlite_log: Engine) -> None:
    insert_raw(sqlite_log, UUID(int=8), data='{"a": "[red]b[/red]"}', aggregate_id="\x1b]0;title\x07")
    ours, theirs = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"SA_EVENTSOURCE_URL": url_of(sqlite_log), "TERM": "xterm-256color"}
    process = start("events", BASE, "--after", "5", engine=sqlite_log, env=environment, stdout=theirs, text=False, encoding=None)
    _, errors = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 100_000)
    os.close(ours)
    assert (process.returncode, errors) == (0, b"")
    assert b"\x1b[1m6" in shown
    assert rb"\x1b]0;title\x07" in shown
    assert b"\x1b]0;" not in shown
    assert b"[red]b[/red]" in shown


def test_a_payload_that_is_nested_deeper_than_python_reads_is_listed(sqlite_engine: Engine) -> None:
    deep = '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}"
    insert_raw(sqlite_engine, UUID(int=8), data=deep)
    assert deep in succeed("events", BASE, "--json", engine=sqlite_engine).stdout


def test_an_interrupt_waits_for_what_must_not_be_cut_off() -> None:
    done: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell has it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append("all of it")
            done.append("nothing more")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["all of it"]
