"""A stream replayed by other code next to the deployed one: where their states part, and both states at each version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from sa_eventsource.browser.asked_stream import asked_stream
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.stream_life import length_of_payloads
from sa_eventsource.event_log import read_history
from sa_eventsource.exceptions import OtherCodeError
from sa_eventsource.replays import Divergence

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.asked_stream import AskedStream
    from sa_eventsource.browser.page import Visit
    from sa_eventsource.event_log import History
    from sa_eventsource.replays import OtherCode, Replay

MOST_EVENTS = 10_000
"""How many events of a stream are replayed."""

_MOST_BYTES = 64 * 1024 * 1024
_FROM_HERE = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` says of a request from this browser's own pages, or from nowhere: an address that was typed or kept."""

_A_PAGE = 25
"""How many versions the time line shows."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A state field at one version.

    Attributes:
        name: Its name.
        here: Its value by the deployed code, as JSON text; None where it has none.
        there: Its value by the other code.
        differs: Whether these are different.
        only: ``"here"`` or ``"there"`` where one class alone has the field; else None.
        changed_here: Whether the event changed it by the deployed code.
        changed_there: Whether the event changed it by the other code.
    """

    name: str
    here: str | None
    there: str | None
    differs: bool
    only: str | None
    changed_here: bool
    changed_there: bool


def show_code(visit: Visit) -> Response:
    """Show a stream as other code replays it. Where another site has led here, it is not run before the reader asks for it here."""
    other = visit.other_code
    if other is None:
        raise HTTPException(404, "No other code may be run here: Browser(other_code=...), or browse --other-code, switches it on.")
    stream = asked_stream(visit)
    if stream is None:
        raise HTTPException(404, f"No class for {visit.asked('type')} is imported here.")
    code, version = visit.asked("code"), visit.whole_number("version", minimum=1)
    most = min(stream.last, MOST_EVENTS)
    common: dict[str, Any] = {
        "of": stream.address,
        "is_closed": stream.is_closed,
        "code": code,
        "other": other,
        "last": most,
        "all_events": stream.last,
    }
    if code is None or visit.request.headers.get("sec-fetch-site", "none") not in _FROM_HERE:
        return visit.render("code_chosen.html", problem=None, **common)
    if version is not None and version > most:
        raise HTTPException(404, f"Version {version} is not among the {most} that are compared.")
    try:
        visit.reader.rollback()  # while it waits and while the code runs, the page holds no connection
        with other.turn(code):  # those that wait hold no history either
            history = _history(visit, stream, code, most)
            here, there, version, differences = _replayed(other, code, history, version, most)
    except OtherCodeError as error:
        return visit.render("code_chosen.html", problem=error, **common)
    first = _window(version, most).start
    return visit.render(
        "code.html",
        here=here,
        there=there,
        version=version,
        row=history.rows[version - 1],
        payload=history.payloads[version - 1],
        rows=history.rows[first - 1 : first - 1 + _A_PAGE],
        differences=differences,
        compared=_compared(here, there, differences, version),
        link_form=visit.source.link_form,
        **common,
    )


def _history(visit: Visit, stream: AskedStream, code: str, most: int) -> History:
    """Read the stream, unless it is too large, in a transaction of its own.

    Raises:
        OtherCodeError: It is.
    """
    with visit.source.reading(visit.access, visit.tenant) as session:
        connection = session.connection(bind_arguments=visit.tables.bind_arguments)
        if length_of_payloads(connection, stream.definition, stream.aggregate_id, most) > _MOST_BYTES:
            megabytes = _MOST_BYTES // 1024 // 1024
            raise OtherCodeError(code, f"the payloads of this stream are larger than {megabytes} MB, and are not given to it")
        return read_history(connection, stream.definition, stream.aggregate_id, version=most)


def _replayed(
    other: OtherCode, code: str, history: History, version: int | None, most: int
) -> tuple[Replay, Replay, int, Divergence]:
    """Replay a stream by both codes: with the states around a version, or around the first at which they part."""
    shown = _window(version or most, most)
    here, there = other.compare(code, history, shown)
    differences = Divergence.between(here, there)
    chosen = version or differences.parted or min(max(differences.last + 1, 1), most)
    if chosen not in shown:
        here, there = other.compare(code, history, _window(chosen, most))
    return here, there, chosen, differences


def _window(version: int, most: int) -> range:
    """Give the versions of the time line that has a version."""
    first = (version - 1) // _A_PAGE * _A_PAGE + 1
    return range(first, min(first + _A_PAGE, most + 1))


def _compared(here: Replay, there: Replay, differences: Divergence, version: int) -> list[Compared]:
    one, other = here.at(version), there.at(version)
    ours, theirs = _state(one), _state(other)
    differing = differences.fields_at(version)
    names = list(dict.fromkeys([*here.fields, *there.fields]))
    return [
        Compared(
            name,
            ours.get(name),
            theirs.get(name),
            name in differing,
            "here" if name in differences.only_here else "there" if name in differences.only_there else None,
            one is not None and name in one.digests,
            other is not None and name in other.digests,
        )
        for name in names
    ]


def _state(step: Any) -> dict[str, str]:
    return {} if step is None or step.state is None else step.state


PAGE = Page(addresses=(Address("code", "/stream/code", show_code),))
