"""Judges what has followed the log: each event once, in order, and by subscriptions at least once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sa_eventsource.checkpoints import Snapshot
from sa_eventsource.counting import counted
from sa_eventsource.selftest.subjects import BATCH_SIZE, SUBSCRIPTION
from sa_eventsource.selftest.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.selftest.evidence import Evidence, StoredEvent


def judge_followers(evidence: Evidence) -> list[Verdict]:
    """Rule on what is guaranteed of those that follow the log."""
    return [_once(evidence), _in_order(evidence), _called(evidence), _own_writes(evidence)]


def _once(evidence: Evidence) -> Verdict:
    marks = {each.mark for each in evidence.events}

    def wrong() -> Iterator[str]:
        for name, taken in evidence.taken.items():
            times = Counter(each.mark for each in taken)
            yield from (
                f"{name} has taken event {mark} {counted(times[mark], 'time')}" for mark in sorted(marks) if times[mark] != 1
            )
            yield from (f"{name} has taken event {mark}, which is not in the log" for mark in sorted(times.keys() - marks))

    return Verdict.of("once", "Each event is taken exactly once", len(marks) * len(evidence.taken), "events taken", wrong())


def _in_order(evidence: Evidence) -> Verdict:
    """Every stream in order; and what a transaction had seen comes before what it wrote, across streams too."""
    log = {each.mark: each for each in evidence.events}
    snapshots = {name: Snapshot.parse(each.snapshot) for name, each in evidence.receipts.items()}

    def wrong() -> Iterator[str]:
        for name, taken in evidence.taken.items():
            events = [log[each.mark] for each in taken if each.mark in log]
            yield from _streams_in_disorder(name, events)
            yield from _late_causes(name, events, snapshots)

    return Verdict.of(
        "order",
        "Events are taken in order: of each stream, and after all that their writer had seen",
        sum(map(len, evidence.taken.values())),
        "events taken",
        wrong(),
    )


def _streams_in_disorder(follower: str, events: list[StoredEvent]) -> Iterator[str]:
    last: dict[tuple[str, str], int] = defaultdict(int)
    for each in events:
        stream = each.aggregate_type, each.aggregate_id
        if each.version <= last[stream]:
            yield f"{follower} has taken version {each.version} of {each.aggregate_id} after version {last[stream]}"
        last[stream] = each.version


def _late_causes(follower: str, events: list[StoredEvent], snapshots: dict[str, Snapshot]) -> Iterator[str]:
    """From the last event to the first: whatever was taken later must not have been visible to the event's writer."""
    later: list[tuple[int, str]] = []
    for each in reversed(events):
        seen = snapshots.get(each.transaction)
        if seen is not None:
            older = later[: bisect_left(later, (seen.xmax, ""))]
            yield from (
                f"{follower} has taken {each.mark} before {mark}, which its writer had seen"
                for transaction_id, mark in older
                if transaction_id not in seen.running
            )
        insort(later, (each.transaction_id, each.mark))


def _called(evidence: Evidence) -> Verdict:
    """Outside of the database: at least once, and never more than a batch again."""
    attempts: dict[int, list[str]] = defaultdict(list)
    for transaction_id, mark in evidence.journals.calls:
        attempts[transaction_id].append(mark)
    committed: dict[int, list[str]] = defaultdict(list)
    for each in evidence.taken[SUBSCRIPTION]:
        committed[each.transaction_id].append(each.mark)

    def wrong() -> Iterator[str]:
        for transaction_id, marks in attempts.items():
            if len(marks) > BATCH_SIZE:
                yield f"one transaction of the subscription had {counted(len(marks), 'event')}, and {BATCH_SIZE} are the most"
            if transaction_id in committed and committed[transaction_id] != marks:
                yield f"the subscription was called for {marks}, and has noted {committed[transaction_id]}"
        yield from (
            f"the subscription was never called for {marks}" for number, marks in committed.items() if number not in attempts
        )

    return Verdict.of(
        "calls",
        f"A subscription is called at least once, and after a crash again for a batch at most ({BATCH_SIZE} events)",
        len(evidence.journals.calls),
        "calls",
        wrong(),
    )


def _own_writes(evidence: Evidence) -> Verdict:
    reads = evidence.journals.reads
    return Verdict.of(
        "own writes",
        "After wait_for, a writer reads its own writes",
        len(reads),
        "rows read",
        (each for each in reads if each is not None),
    )
