"""A self-test that cannot fail is worthless: what a run has left is damaged, in each way that a guarantee excludes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sa_eventsource.mapping import drop_statements, tables_of_base
from sa_eventsource.selftest.journal import Refusal, Transaction
from sa_eventsource.selftest.subjects import BATCH_SIZE, Base
from tests.selftest.conftest import Copy

pytestmark = pytest.mark.slow

LONG = "(SELECT aggregate_id FROM events GROUP BY aggregate_id HAVING count(*) >= 3 ORDER BY aggregate_id LIMIT 1)"
"""A stream of three events or more."""


def known(copy: Copy) -> str:
    """The mark of an event that a writer knows to be committed, and that is the last of its stream."""
    last = {
        mark
        for (mark,) in copy.rows(
            "SELECT DISTINCT ON (aggregate_id) event_data->>'mark' FROM events ORDER BY aggregate_id, version DESC"
        )
    }
    return next(
        mark for each in copy.journals.transactions.values() if each.outcome == "committed" for mark in each.marks if mark in last
    )


def lose_an_event(copy: Copy) -> int:
    return copy.execute("DELETE FROM events WHERE event_data->>'mark' = :mark", mark=known(copy))


def double_an_event(copy: Copy) -> int:
    return copy.execute(
        """INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
        SELECT gen_random_uuid(), aggregate_type, aggregate_id, version + 1, event_type, event_version, event_data, occurred_at
        FROM events WHERE event_data->>'mark' = :mark""",
        mark=known(copy),
    )


def _append(copy: Copy, mark: str) -> int:
    return copy.execute(
        """INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
        SELECT gen_random_uuid(), aggregate_type, aggregate_id, version + 1, event_type, event_version,
            jsonb_set(event_data, '{mark}', to_jsonb(CAST(:mark AS text))), occurred_at
        FROM events WHERE event_data->>'mark' = :last""",
        mark=mark,
        last=known(copy),
    )


def bring_back_what_was_rolled_back(copy: Copy) -> int:
    return _append(copy, next(each for each in copy.journals.transactions.values() if each.outcome == "rolled back").marks[0])


def bring_back_what_a_savepoint_undid(copy: Copy) -> int:
    return _append(copy, next(each for each in copy.journals.transactions.values() if each.undone).undone_marks[0])


def append_what_nobody_did(copy: Copy) -> int:
    return _append(copy, "nobody.1/0")


def lose_an_ordinary_row(copy: Copy) -> int:
    return copy.execute("DELETE FROM receipts WHERE transaction = :name", name=known(copy).partition("/")[0])


def lose_a_part_of_an_unknown_transaction(copy: Copy) -> int:
    mark = known(copy)
    copy.journals.transactions[mark.partition("/")[0]].outcome = "unknown"
    return copy.execute("DELETE FROM events WHERE event_data->>'mark' = :mark", mark=mark)


def leave_a_gap(copy: Copy) -> int:
    return copy.execute(f"DELETE FROM events WHERE version = 2 AND aggregate_id = {LONG}")


def turn_two_versions_round(copy: Copy) -> int:
    swap = "UPDATE events SET version = :to WHERE version = :of AND aggregate_id = " + LONG
    return copy.execute(swap, of=1, to=1000) and copy.execute(swap, of=2, to=1) and copy.execute(swap, of=1000, to=2)


def refuse_without_a_winner(copy: Copy) -> int:
    name = next(iter(copy.journals.transactions))
    copy.journals.refusals.append(Refusal(name, "sa_eventsource.selftest.Account", "nobody", 4, 5))
    return 1


def refuse_who_has_won(copy: Copy) -> int:
    ((mark, aggregate_type, aggregate_id),) = copy.rows(
        f"SELECT event_data->>'mark', aggregate_type, aggregate_id FROM events WHERE version = 1 AND aggregate_id = {LONG}"
    )
    copy.journals.refusals.append(Refusal(str(mark).partition("/")[0], str(aggregate_type), str(aggregate_id), 0, 1))
    return 1


def let_both_win(copy: Copy) -> int:
    two = [each.name for each in copy.journals.transactions.values() if each.outcome == "committed"][:2]
    copy.journals.duels.append((two[0], two[1]))
    return 1


def let_both_lose(copy: Copy) -> int:
    for name in ("left", "right"):
        copy.journals.transactions[name] = Transaction(name, 1, 0, "refused")
    copy.journals.duels.append(("left", "right"))
    return 1


def skip_an_event(copy: Copy) -> int:
    return copy.execute("DELETE FROM taken WHERE number = (SELECT max(number) FROM taken WHERE follower = 'handled')")


def take_an_event_twice(copy: Copy) -> int:
    return copy.execute(
        "INSERT INTO taken (follower, event_id, mark, version) SELECT follower, event_id, mark, version FROM taken LIMIT 1"
    )


def take_a_stream_in_disorder(copy: Copy) -> int:
    """The first two events of a stream change places."""
    marks = copy.rows(f"SELECT event_data->>'mark' FROM events WHERE version < 3 AND aggregate_id = {LONG} ORDER BY version")
    (first,), (second,) = marks
    return copy.execute(
        """UPDATE taken SET mark = CASE mark WHEN :first THEN :second ELSE :first END
        WHERE follower = 'handled' AND mark IN (:first, :second)""",
        first=first,
        second=second,
    )


def take_a_cause_last(copy: Copy) -> int:
    """What every later writer had seen is taken after all."""
    return copy.execute(
        """WITH first AS (DELETE FROM taken WHERE mark = 'first.0/0' AND follower = :follower RETURNING *)
        INSERT INTO taken (follower, event_id, mark, version) SELECT follower, event_id, mark, version FROM first""",
        follower="handled",
    )


def call_too_seldom(copy: Copy) -> int:
    del copy.journals.calls[:]
    return 1


def call_for_something_else(copy: Copy) -> int:
    (transaction_id, _), *_ = copy.journals.calls
    copy.journals.calls.append((transaction_id, "another"))
    return 1


def repeat_more_than_a_batch(copy: Copy) -> int:
    copy.journals.calls.extend((1, f"mark {number}") for number in range(BATCH_SIZE + 1))
    return 1


def read_stale_rows(copy: Copy) -> int:
    copy.journals.reads.append("the row is not there")
    return 1


def change_a_strong_row_of_many_streams(copy: Copy) -> int:
    return copy.execute("UPDATE turnover SET total = total + 1 WHERE place = (SELECT min(place) FROM turnover)")


def lose_a_strong_row(copy: Copy) -> int:
    return copy.execute(f"DELETE FROM projections WHERE projection_name = 'balances' AND id = {LONG}")


def change_an_eventual_row(copy: Copy) -> int:
    return copy.execute("UPDATE places SET greatest = greatest + 1 WHERE place = (SELECT min(place) FROM places)")


def double_a_mark_in_an_eventual_row(copy: Copy) -> int:
    return copy.execute(
        f"""UPDATE projections SET data = jsonb_set(data, '{{marks}}', data->'marks' || (data->'marks'->0))
        WHERE projection_name = 'trails' AND id = {LONG}"""
    )


def change_a_handled_row(copy: Copy) -> int:
    return copy.execute(f"UPDATE handled SET entries = entries + 1 WHERE subject = {LONG}")


def change_a_snapshot(copy: Copy) -> int:
    return copy.execute(
        """UPDATE snapshots SET state = jsonb_set(state, '{total}', '-1000000')
        WHERE aggregate_id = (SELECT min(aggregate_id) FROM snapshots)"""
    )


def take_the_triggers_off(copy: Copy) -> int:
    with copy.engine.begin() as connection:
        for statement in drop_statements(tables_of_base("test", Base).events, "postgresql"):
            connection.execute(statement)
    return 1


def change_an_event(copy: Copy) -> int:
    """Nobody refuses it, and nobody notes it."""
    return take_the_triggers_off(copy) and copy.execute(
        "UPDATE events SET event_data = jsonb_set(event_data, '{amount}', '123456') WHERE event_data->>'mark' = :mark",
        mark=known(copy),
    )


def meet_an_error(copy: Copy) -> int:
    copy.journals.failures.append("writer-1-1: ZeroDivisionError")
    return 1


DAMAGES: list[tuple[Callable[[Copy], int], set[str]]] = [
    (lose_an_event, {"committed", "whole", "once", "strong", "eventual", "verify"}),
    (double_an_event, {"committed", "whole", "strong", "eventual", "verify"}),
    (bring_back_what_was_rolled_back, {"undone", "whole", "once", "strong", "eventual", "verify"}),
    (bring_back_what_a_savepoint_undid, {"undone", "whole", "once", "strong", "eventual"}),
    (append_what_nobody_did, {"undone", "once", "strong", "eventual"}),
    (lose_an_ordinary_row, {"whole"}),
    (lose_a_part_of_an_unknown_transaction, {"whole", "once", "verify"}),
    (leave_a_gap, {"versions", "verify"}),
    (turn_two_versions_round, {"versions", "verify", "order"}),
    (refuse_without_a_winner, {"conflicts"}),
    (refuse_who_has_won, {"conflicts"}),
    (let_both_win, {"conflicts"}),
    (let_both_lose, {"conflicts"}),
    (skip_an_event, {"once"}),
    (take_an_event_twice, {"once", "order"}),
    (take_a_stream_in_disorder, {"order"}),
    (take_a_cause_last, {"order"}),
    (call_too_seldom, {"calls"}),
    (call_for_something_else, {"calls"}),
    (repeat_more_than_a_batch, {"calls"}),
    (read_stale_rows, {"own writes"}),
    (change_a_strong_row_of_many_streams, {"strong", "verify"}),
    (lose_a_strong_row, {"strong", "verify"}),
    (change_an_eventual_row, {"eventual", "verify"}),
    (double_a_mark_in_an_eventual_row, {"eventual", "verify"}),
    (change_a_handled_row, {"eventual"}),
    (change_a_snapshot, {"snapshots", "verify"}),
    (take_the_triggers_off, {"immutable", "verify"}),
    (change_an_event, {"immutable", "strong", "eventual", "verify"}),
    (meet_an_error, {"errors"}),
]


@pytest.mark.parametrize(("damage", "broken"), [pytest.param(*each, id=each[0].__name__) for each in DAMAGES])
def test_a_fault_is_found_by_whoever_guarantees_that_it_is_not(
    copied: Copy, damage: Callable[[Copy], int], broken: set[str]
) -> None:
    assert damage(copied) >= 1
    rulings = copied.rulings()
    found = {name for name, ruling in rulings.items() if ruling == "broken"}
    assert broken <= found
    if len(broken) == 1:
        assert found == broken


def test_a_cause_that_is_taken_late_is_named(copied: Copy) -> None:
    take_a_cause_last(copied)
    assert "which its writer had seen" in "".join(copied.problems("order"))


def test_without_a_fault_nothing_is_broken(copied: Copy) -> None:
    assert "broken" not in copied.rulings().values()


def test_a_guarantee_that_was_not_put_to_the_test_has_not_held(copied: Copy) -> None:
    del copied.journals.reads[:]
    assert copied.rulings()["own writes"] == "not tested"
