"""Judges the log by what the writers know: nothing lost, nothing that was undone, every stream whole, conflicts told rightly."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sa_eventsource.counting import counted
from sa_eventsource.selftest.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.selftest.evidence import Evidence, StoredEvent


def judge_log(evidence: Evidence) -> list[Verdict]:
    """Rule on what is guaranteed of the log."""
    return [
        _nothing_lost(evidence),
        _nothing_undone(evidence),
        _whole_transactions(evidence),
        _versions(evidence),
        _conflicts(evidence),
    ]


def _nothing_lost(evidence: Evidence) -> Verdict:
    stored = Counter(each.mark for each in evidence.events)
    committed = [mark for each in evidence.journals.transactions.values() if each.outcome == "committed" for mark in each.marks]
    lost = (
        f"event {mark} was committed, and is in the log {counted(stored[mark], 'time')}" for mark in committed if stored[mark] != 1
    )
    return Verdict.of("committed", "Every committed event is in the log, once", len(committed), "events", lost)


def _nothing_undone(evidence: Evidence) -> Verdict:
    undone: dict[str, str] = {}
    for each in evidence.journals.transactions.values():
        undone |= dict.fromkeys(each.undone_marks, "undone with a savepoint")
        if each.outcome not in ("committed", "unknown"):
            undone |= dict.fromkeys(each.marks, f"of a transaction that was {each.outcome}")
    known = {mark for each in evidence.journals.transactions.values() for mark in each.marks}
    wrong = [f"event {each.mark} is in the log, and was {undone[each.mark]}" for each in evidence.events if each.mark in undone]
    wrong += [
        f"event {each.mark} is in the log, and nobody appended it"
        for each in evidence.events
        if each.mark not in undone and each.mark not in known
    ]
    return Verdict.of("undone", "Nothing that was rolled back, refused or cut is in the log", len(undone), "events", wrong)


def _whole_transactions(evidence: Evidence) -> Verdict:
    """The events of a transaction and its other rows are all there or none, also where the writer does not know."""
    stored = Counter(each.transaction for each in evidence.events)

    def torn() -> Iterator[str]:
        for each in evidence.journals.transactions.values():
            receipt = evidence.receipts.get(each.name)
            number = stored[each.name]
            if receipt is None and number:
                yield f"{each.name} ({each.outcome}): {counted(number, 'event is', 'events are')} there, and its other row is not"
            elif receipt is not None and number != receipt.events:
                yield f"{each.name} ({each.outcome}): {number} of its {counted(receipt.events, 'event')}, and its other row"
            elif receipt is None and each.outcome == "committed":
                yield f"{each.name} was committed, and its other row is not there"

    return Verdict.of(
        "whole",
        "Events and other rows are committed together, or not at all",
        len(evidence.journals.transactions),
        "transactions",
        torn(),
    )


def _versions(evidence: Evidence) -> Verdict:
    streams: dict[tuple[str, str], list[int]] = defaultdict(list)
    for each in evidence.events:
        streams[each.aggregate_type, each.aggregate_id].append(each.version)
    wrong = (
        f"stream {aggregate_id} has, in the order of positions, the versions {versions}"
        for (_, aggregate_id), versions in streams.items()
        if versions != list(range(1, len(versions) + 1))
    )
    return Verdict.of(
        "versions", "Versions count from 1 without gap or repeat, in the order of positions", len(streams), "streams", wrong
    )


def _conflicts(evidence: Evidence) -> Verdict:
    """Whoever was refused has lost against an event that is there; of two that were alone, one has won."""
    log: dict[tuple[str, str, int], StoredEvent] = {
        (each.aggregate_type, each.aggregate_id, each.version): each for each in evidence.events
    }
    journals = evidence.journals
    transactions = journals.transactions
    fought = [
        pair
        for pair in journals.duels
        if all(name in transactions and transactions[name].outcome in ("committed", "refused") for name in pair)
    ]
    seen = [each for each in journals.refusals if each.actual is not None]

    def wrong() -> Iterator[str]:
        for each in seen:
            refused = f"{each.transaction} was refused after version {each.expected} of {each.aggregate_id}"
            winner = log.get((each.aggregate_type, each.aggregate_id, each.expected + 1))
            if winner is None:
                yield f"{refused}, and no other version is there"
            elif winner.transaction == each.transaction:
                yield f"{refused}, and has appended to it"
        for pair in fought:
            winners = [name for name in pair if transactions[name].outcome == "committed"]
            if len(winners) != 1:
                yield f"{pair[0]} and {pair[1]} appended at the same version, and {len(winners)} of them won"

    return Verdict.of("conflicts", "Of those that append at one version, one wins", len(seen) + len(fought), "conflicts", wrong())
