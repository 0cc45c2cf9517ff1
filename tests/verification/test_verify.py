"""Verifying finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    ReadModel,
    RecordedEvent,
    RetryPolicy,
    Worker,
    evolves,
    map_from_event,
    verify,
)
from sa_eventsource.consumers.shards import followers_of
from sa_eventsource.projections.steps import take_step
from sa_eventsource.read_models import definition_of
from tests.cli.commands import call, fail, succeed
from tests.shop import AnyTill, Sold
from tests.verification.damage import COMPARED, Articles, Base, Till, execute, fill, sell


class Unmigrated(DeclarativeBase):
    """Base of what gained a unique index, and no migration."""


class UnmigratedTill(AnyTill, Unmigrated):
    __aggregate_type__ = "verified.UnmigratedTill"


class Seats(ReadModel, Unmigrated):
    """In the shared table."""

    __projection_name__ = "seats"
    number: Mapped[int] = map_from_event(Sold, unique=True)


class SeatsByRow(ReadModel, Unmigrated):
    """In a table of its own, with an index and a constraint."""

    __tablename__ = "seats_by_row"
    __projection_name__ = "seats_by_row"
    number: Mapped[int] = map_from_event(Sold, unique=True, index=True)
    what: Mapped[str] = map_from_event(Sold, unique=True)


class Tallying(DeclarativeBase):
    """Base of a model with a method that does not take every event."""


class TalliedTill(AnyTill, Tallying):
    __aggregate_type__ = "verified.TalliedTill"


class Tally(ReadModel, Tallying):
    """The numbers of a till."""

    __projection_name__ = "tally"
    id: Mapped[str]
    total: Mapped[int] = mapped_column(default=0)

    @evolves(Sold)
    def _sold(self, recorded: RecordedEvent[Sold]) -> None:
        if recorded.event.number == UNLUCKY:
            raise ValueError("unlucky")
        self.total += recorded.event.number


UNLUCKY = 13
ROW = "ix_seats_by_row_number"

HERE = "tests.verification.damage:Base"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def log(engine: Engine) -> Engine:
    fill(engine)
    return engine


def found(engine: Engine, **options: Any) -> list[str]:
    return [str(each) for each in verify(engine, Base, **options).findings]


def test_nothing_is_found_where_nothing_is_wrong(log: Engine) -> None:
    verification = verify(log, Base)
    assert verification.findings == ()
    assert verification.is_sound
    assert verification.rows == {"articles": 3, "tills": 4, "per_day": 4}
    assert verification.snapshots == 4
    assert verification.not_compared == {"by_hand": "it has @handles methods, which a fold leaves out"}


def test_a_method_that_raises_for_an_event_that_was_skipped_is_a_finding(engine: Engine) -> None:
    Tallying.metadata.create_all(engine)
    with Session(engine) as session:
        for name, number in (("a", 1), ("b", UNLUCKY), ("c", 2)):
            till = TalliedTill(id=name)
            till.apply_event(Sold(number=number))
            session.add(till)
            session.commit()
    worker = Worker(engine, Tallying, retries=RetryPolicy(attempts=1))
    worker.run_once()
    succeed("resume", "tests.verification.test_verify:Tallying", "tally", "--skip", engine=engine)
    worker.run_once()
    (found,) = map(str, verify(engine, Tallying).findings)
    assert found.startswith("read models: tally: its rows cannot be compared: read model 'tally' cannot take shop.Sold ")
    assert found.endswith("(verified.TalliedTill 'b' version 1) in row 'b': ValueError: unlucky")


def test_an_empty_log_is_sound(engine: Engine) -> None:
    assert verify(engine, Base).findings == ()


def test_what_is_put_aside_or_half_taken_is_no_difference(postgres_engine: Engine) -> None:
    fill(postgres_engine)
    sell(postgres_engine, "t-1", 2**40, 4)
    sell(postgres_engine, "t-2", 8, 9)
    Worker(postgres_engine, Base, only=["per_day"]).run_once()
    definition = definition_of(Articles)
    with Session(postgres_engine) as session:
        for follower in followers_of(definition, postgres_engine.dialect)[:2]:
            take_step(session, follower, 1)
    with postgres_engine.connect() as connection:
        parked = connection.scalar(text("SELECT count(*) FROM parked_events"))
        windows = connection.scalar(text("SELECT count(*) FROM projection_positions WHERE window_end IS NOT NULL"))
    assert (parked, windows) != (0, 0)
    assert found(postgres_engine) == []


def test_a_missing_version_is_found(log: Engine) -> None:
    execute(log, "DELETE FROM events WHERE aggregate_id = 't-1' AND version = 3")
    (first, *_) = found(log, only=[])
    assert first == (
        "streams: verified.Till 't-1': version 4 stands after version 2: events are missing. Restore them from a backup."
    )


def test_a_missing_beginning_is_found(log: Engine) -> None:
    execute(log, "DELETE FROM events WHERE aggregate_id = 't-1' AND version <= 2")
    assert "version 3 stands at its beginning" in found(log, only=[])[0]


def test_positions_against_the_order_of_versions_are_found(log: Engine) -> None:
    execute(
        log,
        "UPDATE events SET position = -position WHERE aggregate_id = 't-2' AND version IN (4, 5)",
        "UPDATE events SET position = (SELECT max(-position) + min(-position) FROM events WHERE position < 0) + position"
        " WHERE position < 0",
    )
    (only,) = found(log, only=[])
    assert only.startswith("streams: verified.Till 't-2': version 5 has position")


@pytest.mark.parametrize("moment", ["infinity", "0044-03-15 12:00 BC", "10000-01-01"])
def test_a_time_that_python_cannot_have_is_found(postgres_engine: Engine, moment: str) -> None:
    """As another program may have written it: neither the event nor what follows from it can be read."""
    fill(postgres_engine)
    execute(postgres_engine, f"UPDATE events SET occurred_at = '{moment}' WHERE aggregate_id = 't-1' AND version = 3")
    first, *others = found(postgres_engine)
    assert first.startswith("times: verified.Till 't-1': version 3 occurred at ")
    assert {each.partition(": DataError")[0] for each in others} == {
        f"read models: {name}: its rows cannot be compared" for name in ("articles", "per_day", "tills")
    }


def test_a_sequence_of_positions_from_which_connections_keep_some_is_found(postgres_engine: Engine) -> None:
    fill(postgres_engine)
    execute(postgres_engine, "ALTER SEQUENCE events_position_seq CACHE 20")
    (only,) = found(postgres_engine)
    assert only.startswith("constraints: events: the sequence of the column position has CACHE 20: ")


def test_a_sequence_of_positions_that_counts_down_is_found(postgres_engine: Engine) -> None:
    fill(postgres_engine)
    execute(postgres_engine, "ALTER SEQUENCE events_position_seq INCREMENT -1")
    (only,) = found(postgres_engine)
    assert only.startswith("constraints: events: the sequence of the column position has INCREMENT -1: ")


def test_a_sequence_of_positions_that_was_set_back_is_found(postgres_engine: Engine) -> None:
    """As after rows were brought by other means than an import: appends are refused as if somebody else had changed the stream."""
    fill(postgres_engine)
    execute(postgres_engine, "SELECT setval('events_position_seq', 3)")
    (only,) = found(postgres_engine)
    assert "the sequence that positions are drawn from stands at 3, and the last event has position " in only


@pytest.mark.parametrize("position", [0, -3])
def test_a_position_before_the_first_one_is_found(log: Engine, position: int) -> None:
    """A follower that begins passes over it, and so does the comparison of the rows of those that have taken it."""
    execute(log, f"UPDATE events SET position = {position} WHERE position = 1")
    assert found(log, only=[])[0].startswith(
        f"streams: verified.Till 't-0': version 1 has position {position}, and the first position is 1"
    )


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("transaction_id", "DROP DEFAULT", "has no default"),
        ("transaction_id", "SET DEFAULT CAST('3' AS xid8)", "has the default "),
        ("transaction_id", "DROP NOT NULL", "may be NULL"),
        ("recorded_at", "DROP DEFAULT", "has no default"),
        ("recorded_at", "SET DEFAULT now()", "has the default now()"),
    ],
)
def test_a_column_that_the_database_does_not_fill_in_as_declared_is_found(
    postgres_engine: Engine, column: str, change: str, message: str
) -> None:
    """With another transaction id than that of its transaction, an event would be passed over by all who follow the log."""
    fill(postgres_engine)
    execute(postgres_engine, f"ALTER TABLE events ALTER {column} {change}")
    (only,) = found(postgres_engine)
    assert only.startswith(f"constraints: events: the column {column} {message}")


@pytest.mark.parametrize("table", ["projection_positions", "projections", "per_day"])
def test_a_table_that_a_crash_of_the_server_empties_is_found(postgres_engine: Engine, table: str) -> None:
    fill(postgres_engine)
    execute(postgres_engine, f"ALTER TABLE {table} SET UNLOGGED")
    (only,) = found(postgres_engine)
    assert only.startswith(f"constraints: {table}: the table is UNLOGGED: ")


def test_an_events_table_that_a_crash_of_the_server_empties_is_found(postgres_engine: Engine) -> None:
    """Partitions are found by their own names."""
    fill(postgres_engine)
    stored = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname LIKE 'events%' ORDER BY 1"
    with postgres_engine.connect() as connection:
        name = connection.scalars(text(stored)).first()
    execute(postgres_engine, f"ALTER TABLE {name} SET UNLOGGED")
    (only,) = found(postgres_engine)
    assert only.startswith(f"constraints: {name}: the table is UNLOGGED: ")


@pytest.mark.parametrize(("metadata", "kind"), [("[1]", "array"), ('"x"', "string"), ("null", "null")])
def test_metadata_that_is_no_object_is_found(postgres_engine: Engine, metadata: str, kind: str) -> None:
    """As another program may have written it."""
    fill(postgres_engine)
    execute(postgres_engine, f"UPDATE events SET metadata = '{metadata}' WHERE aggregate_id = 't-1' AND version = 3")
    (only,) = found(postgres_engine)
    assert only.startswith(f"metadata: verified.Till 't-1': the metadata of version 3 is a JSON {kind}, and no object")


def test_an_aggregate_type_that_no_class_has_is_found(log: Engine) -> None:
    """As after a class was renamed: for the code, its streams are not there."""
    execute(log, "UPDATE events SET aggregate_type = 'former.Till' WHERE aggregate_id IN ('t-1', 't-2')")
    verification = verify(log, Base, only=[])
    (only,) = [each for each in verification.findings if each.check == "aggregate types"]
    assert (only.subject, only.is_warning) == ("former.Till", False)
    assert only.message.startswith("no class has the type, which 2 streams have")
    assert "__aggregate_type__ = 'former.Till'" in only.message


def test_a_unique_index_that_is_missing_is_found(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    Unmigrated.metadata.create_all(engine)
    assert verify(engine, Unmigrated).findings == ()
    with engine.begin() as connection:
        for name in ("ix_seats_number", ROW):
            connection.execute(text(f'DROP INDEX "{name}"'))
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE seats_by_row DROP CONSTRAINT seats_by_row_what_key"))
    messages = {str(each) for each in verify(engine, Unmigrated).findings}
    missing = "is missing, so that rows may share a value; migrate the database"
    expected = {
        f"read models: seats: the unique index ix_seats_number {missing}",
        f"read models: seats_by_row: the unique index {ROW} {missing}",
    }
    if engine.dialect.name == "postgresql":  # SQLite cannot drop a constraint
        expected.add(f"read models: seats_by_row: the unique constraint on what {missing}")
    assert messages == expected


def test_an_unknown_event_type_is_found(log: Engine) -> None:
    execute(log, "UPDATE events SET event_type = 'gone.Away' WHERE version = 6")
    expected = "event types: gone.Away: no class declares the type, which 1 event has; import the module of its class, or"
    assert any(each.startswith(expected) for each in found(log))


def test_an_event_of_a_newer_version_is_found(log: Engine) -> None:
    execute(log, "UPDATE events SET event_version = 7 WHERE version = 6")
    lines = found(log)
    assert "event types: shop.Sold: there are events of version 7, and the code, which is older, knows 1" in lines


def test_a_payload_that_cannot_be_read_is_found_and_the_other_models_are_compared(log: Engine) -> None:
    execute(log, """UPDATE events SET event_data = '{"number": null}' WHERE aggregate_id = 't-3' AND version = 1""")
    verification = verify(log, Base)
    assert {each.subject for each in verification.findings if each.check == "read models"} == {"articles", "tills", "per_day"}
    assert {each.subject for each in verification.findings if each.check == "snapshots"} == {"verified.Till 't-3'"}


def test_transaction_ids_of_another_cluster_are_found(postgres_engine: Engine) -> None:
    fill(postgres_engine)
    execute(postgres_engine, "UPDATE events SET transaction_id = '99999999999'::xid8 WHERE version = 6")
    assert any(each.startswith("transactions: events: 1 event has a transaction id of another") for each in found(postgres_engine))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cluster = '4711'", "it is of database cluster 4711"),
        ("snapshot_cursor = '99999999990:99999999999:'", "its snapshot is from the future"),
    ],
)
def test_checkpoints_of_another_cluster_or_time_are_found(postgres_engine: Engine, change: str, message: str) -> None:
    fill(postgres_engine)
    execute(postgres_engine, f"UPDATE projection_positions SET {change} WHERE projection_name = 'per_day'")
    assert any(each.startswith(f"checkpoints: per_day: {message}") for each in found(postgres_engine, only=[]))


@pytest.mark.parametrize("snapshot", ["garbage", "1:2", "", "a:b:c"])
@pytest.mark.parametrize("column", ["snapshot_cursor", "window_end"])
def test_a_checkpoint_that_cannot_be_read_is_found(postgres_engine: Engine, column: str, snapshot: str) -> None:
    fill(postgres_engine)
    execute(postgres_engine, f"UPDATE projection_positions SET {column} = '{snapshot}' WHERE projection_name = 'per_day'")
    verification = verify(postgres_engine, Base)
    (only,) = verification.findings
    assert str(only).startswith("checkpoints: per_day: its snapshot cannot be read: ")
    assert verification.not_compared["per_day"] == "its checkpoint cannot be read"
    assert set(verification.rows) == {"articles", "tills"}


def test_a_status_that_no_checkpoint_has_is_found(log: Engine) -> None:
    execute(log, "UPDATE projection_positions SET status = 'halted' WHERE projection_name = 'per_day'")
    (only,) = found(log)
    assert only.startswith("checkpoints: per_day: its status is 'halted', which is none of running, waiting, stopped")


def test_a_window_that_ends_before_it_begins_is_found(postgres_engine: Engine) -> None:
    fill(postgres_engine)
    execute(postgres_engine, "UPDATE projection_positions SET window_end = '3:3:' WHERE projection_name = 'by_hand'")
    assert any(each.startswith("checkpoints: by_hand: its window ends before it begins") for each in found(postgres_engine))


def test_a_checkpoint_past_events_that_were_not_taken_is_found(postgres_engine: Engine) -> None:
    """Also of a model whose rows cannot be compared: the checkpoint keeps the highest position that was taken."""
    fill(postgres_engine)
    execute(
        postgres_engine,
        "UPDATE projection_positions SET snapshot_cursor = CAST(pg_current_snapshot() AS TEXT) WHERE projection_name = 'by_hand'",
    )
    (only,) = found(postgres_engine)
    assert only == ("checkpoints: by_hand: it has passed 1 event that it has not taken, the first at position 21. Rebuild it")


def test_a_strong_model_that_was_never_built_is_a_warning(engine: Engine) -> None:
    fill(engine)
    execute(engine, "DELETE FROM projection_positions WHERE projection_name = 'tills'")
    (only,) = verify(engine, Base).findings
    assert str(only).startswith("checkpoints: tills: the log has events from before its checkpoint")
    assert only.is_warning


def test_a_checkpoint_ahead_of_the_log_is_found(log: Engine) -> None:
    execute(log, "UPDATE projection_positions SET last_processed_position = 4711 WHERE projection_name = 'per_day'")
    assert any(each.startswith("checkpoints: per_day: it is ahead of the log: at position 4711") for each in found(log, only=[]))


def test_another_declaration_is_found_and_its_rows_are_not_compared(log: Engine) -> None:
    execute(log, "UPDATE projection_positions SET declaration = 'other' WHERE projection_name = 'per_day'")
    verification = verify(log, Base)
    assert [each.subject for each in verification.findings] == ["per_day"]
    assert verification.not_compared["per_day"] == "its rows were made under another declaration"


def test_a_checkpoint_of_what_is_not_declared_is_a_warning(log: Engine) -> None:
    execute(log, "INSERT INTO projection_positions (projection_name) VALUES ('former@2')")
    verification = verify(log, Base)
    assert [(each.subject, each.is_warning) for each in verification.findings] == [("former@2", True)]
    assert verification.is_sound


def test_parked_events_that_are_not_in_the_log_are_found(log: Engine) -> None:
    execute(
        log,
        "INSERT INTO parked_events (projection_name, position, event_id, aggregate_type, aggregate_id) "
        "SELECT 'per_day', position, event_id, aggregate_type, 'elsewhere' FROM events WHERE version = 6",
    )
    (only,) = found(log, only=[])
    assert only.endswith("is in the log at another place")


def test_a_parked_event_that_is_gone_is_found(log: Engine) -> None:
    execute(
        log,
        "INSERT INTO parked_events (projection_name, position, event_id, aggregate_type, aggregate_id) "
        "SELECT 'per_day', position, event_id, aggregate_type, aggregate_id FROM events WHERE version = 6",
        "DELETE FROM events WHERE version = 6",
    )
    assert any(each.endswith("is not in the log") for each in found(log, only=[]))


def test_a_snapshot_ahead_of_its_stream_is_found(log: Engine) -> None:
    execute(log, "UPDATE snapshots SET version = 9 WHERE aggregate_id = 't-1'")
    assert any(
        each.startswith("snapshots: verified.Till 't-1': it is of version 9, and the stream ends at 5") for each in found(log)
    )


def test_a_snapshot_of_a_stream_that_is_gone_is_found(log: Engine) -> None:
    execute(log, "DELETE FROM events WHERE aggregate_id = 't-1'")
    assert any("it is of version 5, and the stream ends at 0" in each for each in found(log))


def test_a_snapshot_of_a_log_that_went_on_otherwise_is_found(log: Engine) -> None:
    execute(log, f"UPDATE events SET event_id = '{1:032x}' WHERE aggregate_id = 't-1' AND version = 5")
    snapshots = [each for each in found(log, only=[]) if each.startswith("snapshots")]
    assert [each.partition(" It is not used")[0] for each in snapshots] == [
        "snapshots: verified.Till 't-1': it is of version 5, and the stream has another event of that version."
    ]


def test_a_snapshot_with_another_state_is_found(log: Engine) -> None:
    state = json.dumps({"total": 99, "sold": ["article 1"]})
    execute(log, "UPDATE snapshots SET state = :state WHERE aggregate_id = 't-1'", parameters={"state": state})
    lines = found(log, only=[])
    assert lines[0].startswith("snapshots: verified.Till 't-1': sold is ('article 1',) in the snapshot of version 5, and the")
    assert lines[1].startswith(
        "snapshots: verified.Till 't-1': total is 99 in the snapshot of version 5, and the events make it 15"
    )


def test_a_snapshot_that_the_code_would_not_use_is_left_out(log: Engine) -> None:
    execute(log, "UPDATE snapshots SET state = '{}', state_fingerprint = 'former' WHERE aggregate_id = 't-1'")
    verification = verify(log, Base)
    assert verification.findings == ()
    assert verification.snapshots == 3


def test_a_row_that_differs_is_found(log: Engine) -> None:
    execute(log, "UPDATE per_day SET latest = 99 WHERE till = 't-1'")
    (only,) = found(log)
    assert only.startswith("read models: per_day '[")
    assert only.endswith("latest is 99, and the log makes it 5. Rebuild it: per_day.")


def test_a_row_in_the_shared_table_that_differs_is_found(log: Engine) -> None:
    cast = "::jsonb" if log.dialect.name == "postgresql" else ""
    data = json.dumps({"id": "t-1", "first": "article 1", "total": 15, "articles": ["article 1", "article 2", "article 0"]})
    execute(log, f"UPDATE projections SET data = CAST(:data AS TEXT){cast} WHERE id = 't-1'", parameters={"data": data})
    (only,) = found(log)
    assert only.startswith("read models: tills 't-1': articles is ['article 1', 'article 2', 'article 0'], and the log makes it [")


def test_a_missing_row_is_found(log: Engine) -> None:
    execute(log, "DELETE FROM projections WHERE projection_name = 'articles' AND id = 'article 2'")
    assert found(log) == [
        "read models: articles 'article 2': is missing from the table, and the log makes it. Rebuild it: articles."
    ]


def test_a_row_that_no_event_made_is_found(log: Engine) -> None:
    execute(log, "UPDATE per_day SET till = 't-9' WHERE till = 't-1'")
    messages = sorted(each.partition(": ")[2].partition("]': ")[2] for each in found(log))
    assert messages == [
        "is in the table, and the log makes no such row. Rebuild it: per_day.",
        "is missing from the table, and the log makes it. Rebuild it: per_day.",
    ]


def test_an_event_that_was_skipped_is_found(log: Engine) -> None:
    """As if a follower had come past it: the checkpoint says that it was taken."""
    execute(log, "UPDATE projection_positions SET last_processed_position = (SELECT max(position) FROM events)")
    if log.dialect.name == "postgresql":
        execute(log, "UPDATE projection_positions SET snapshot_cursor = CAST(pg_current_snapshot() AS TEXT), window_end = NULL")
    names = {each.partition(": ")[2].partition(" ")[0] for each in found(log)}
    assert names == {"articles", "per_day"}


@pytest.mark.slow_on_sqlite
def test_of_many_findings_the_first_hundred_are_kept(engine: Engine) -> None:
    fill(engine, tills=120)
    execute(engine, "DELETE FROM projections WHERE projection_name = 'tills'")
    assert len(found(engine, only=["tills"])) == 100


@pytest.mark.slow_on_sqlite
def test_a_sample_compares_about_as_many_as_asked_for_and_a_seed_draws_the_same(engine: Engine) -> None:
    fill(engine, tills=200)
    execute(engine, "UPDATE per_day SET latest = 99")
    verification = verify(engine, Base, sample=50, seed=5)
    assert 20 <= verification.rows["tills"] <= 80
    assert 20 <= verification.rows["per_day"] <= 80
    assert 20 <= verification.snapshots <= 80
    assert len(verification.findings) == verification.rows["per_day"]
    assert verify(engine, Base, sample=50, seed=5) == verification
    assert verify(engine, Base, sample=50, seed=6) != verification
    assert verify(engine, Base, sample=50).seed != verify(engine, Base, sample=50).seed


def test_progress_is_told(log: Engine) -> None:
    told: list[tuple[str, int, int | None]] = []
    verify(log, Base, progress=lambda what, done, total: told.append((what, done, total)))
    assert ("streams", 0, None) in told
    assert ("snapshots of verified.Till", 4, 4) in told
    assert ("tills", 21, 21) in told


def test_nothing_is_locked_and_nothing_written(postgres_engine: Engine) -> None:
    """Beside an open transaction of a writer and one of a follower, which hold locks."""
    fill(postgres_engine)
    with Session(postgres_engine) as writer, Session(postgres_engine) as follower:
        writer.get_one(Till, "t-1").apply_event(Sold(what="late", number=1))
        writer.flush()
        follower.execute(text("SELECT * FROM projection_positions FOR UPDATE"))
        assert found(postgres_engine) == []


def test_the_command_says_that_all_is_well(log: Engine) -> None:
    result = succeed("verify", HERE, engine=log)
    assert "nothing is wrong" in result.stdout
    assert "by_hand: not compared: it has @handles methods" in result.stdout
    for name in COMPARED:
        assert f"{name}: " in result.stdout


def test_the_command_says_what_is_wrong_by_its_status_too(log: Engine) -> None:
    execute(log, "UPDATE per_day SET latest = 99", "INSERT INTO projection_positions (projection_name) VALUES ('former')")
    result = call("verify", HERE, "--all", engine=log)
    assert result.exit_code == 1
    assert "WRONG   read models: per_day" in result.stdout
    assert "warning checkpoints: former" in result.stdout
    assert "4 things are wrong" in result.stdout


def test_the_command_gives_json(log: Engine) -> None:
    document = json.loads(succeed("verify", HERE, "--json", "--sample", "2", "--seed", "3", "--only", "tills", engine=log).stdout)
    assert document["is_sound"] is True
    assert document["findings"] == []
    assert list(document["rows"]) == ["tills"]
    assert document["seed"] == 3


def test_the_command_names_the_models_that_there_are(log: Engine) -> None:
    assert "there is no read model 'nothing'; there are: articles, by_hand, per_day, tills" in fail(
        "verify", HERE, "--only", "nothing", engine=log, status=2
    )
