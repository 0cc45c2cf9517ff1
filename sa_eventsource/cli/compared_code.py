"""``sa-eventsource show --with``: where the states of an aggregate part when other code replays it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.mapping import as_json, json_object
from sa_eventsource.replays import Divergence

if TYPE_CHECKING:
    from sa_eventsource.cli.output import Output
    from sa_eventsource.event_log import History
    from sa_eventsource.replays import Difference, OtherCode, Replay


def show_differences(output: Output, other: OtherCode, code: str, history: History, *, as_json_object: bool) -> bool:
    """Compare what the deployed code and other code make of a stream, and print where they differ.

    Returns:
        Whether both came to the end, with the same states.

    Raises:
        OtherCodeError: The code cannot be used.
    """
    here, there = other.compare(code, history, range(0))
    differences = Divergence.between(here, there)
    parted = differences.parted
    if parted is not None:
        here, there = other.compare(code, history, range(parted, parted + 1))
    (_print_json if as_json_object else _print_for_people)(output, code, history, here, there, differences)
    return parted is None and here.error is None and there.error is None


def _print_for_people(  # noqa: PLR0913, PLR0917 - all that is said
    output: Output, code: str, history: History, here: Replay, there: Replay, differences: Divergence
) -> None:
    last = history.rows[-1].version
    output.styled(
        (f"{history.definition.aggregate_type} {history.aggregate_id}", "bold"), (f", and by {code}: {there.origin}", "dim")
    )
    for name, replay in (("the deployed code", here), (code, there)):
        if replay.error is not None:
            output.styled((f"{name} came to version {_reached(replay)} of {last}: {replay.error}", "red"))
    if differences.parted is None:
        output.styled((f"the states are the same up to version {differences.last} of {last}", "bold"))
    else:
        output.styled((f"the states part at version {differences.parted} of {last}", "bold"))
    for each in differences.differences:
        where = "on" if each.last == differences.last else "alone" if each.first == each.last else f"to {each.last}"
        output.styled((f"    {each.field}: ", ""), (f"version {each.first} {where}", "cyan"))
        if each.first == differences.parted:
            ours, theirs = _values(each, here, there)
            output.styled((f"        {ours or '(unset)'}", "red"), (" → ", "dim"), (theirs or "(unset)", "green"))
    for whose, names in (("the deployed code", differences.only_here), (code, differences.only_there)):
        if names:
            output.styled((f"    only {whose} has: {', '.join(names)}", "dim"))


def _print_json(  # noqa: PLR0913, PLR0917 - all that is said
    output: Output, code: str, history: History, here: Replay, there: Replay, differences: Divergence
) -> None:
    found = []
    for each in differences.differences:
        members = {"field": as_json(each.field), "first": str(each.first), "last": str(each.last)}
        if each.first == differences.parted:
            ours, theirs = _values(each, here, there)
            members |= {"here": ours or "null", "there": theirs or "null"}
        found.append(json_object(members))
    members = {
        "aggregate_type": as_json(history.definition.aggregate_type),
        "aggregate_id": as_json(history.aggregate_id),
        "version": str(history.rows[-1].version),
        "code": as_json(code),
        "origin": as_json(there.origin),
        "parted": as_json(differences.parted),
        "compared_to": str(differences.last),
        "differences": f"[{','.join(found)}]",
        "only_here": as_json(list(differences.only_here)),
        "only_there": as_json(list(differences.only_there)),
        "error_here": as_json(here.error),
        "error_there": as_json(there.error),
    }
    output.line(json_object(members))


def _reached(replay: Replay) -> int:
    return max(len(replay.steps) - 1, 0)


def _values(difference: Difference, here: Replay, there: Replay) -> tuple[str | None, str | None]:
    """Give both values at the version that a difference begins at."""
    steps: list[Any] = [each.at(difference.first) for each in (here, there)]
    ours, theirs = (None if step is None or step.state is None else step.state.get(difference.field) for step in steps)
    return ours, theirs
