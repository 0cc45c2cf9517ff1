"""Publishers and other subscriptions: how far each lane has come and why one has stopped, what is parked; and inboxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select
from starlette.exceptions import HTTPException

from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.shown_followers import lanes_of, statuses_of
from sa_eventsource.browser.shown_parked_events import parked_by
from sa_eventsource.consumers import Relay, Subscription, subscriptions_on
from sa_eventsource.processes import ProcessSubscription
from sa_eventsource.projections import WELL, in_short
from sa_eventsource.publishing import inbox_tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Table
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.mapping import EventSourceTables

_MOST_COUNTED = 10_000
_MOST_CONSUMERS = 100


@dataclass(frozen=True, slots=True)
class Received:
    """What a consumer of messages has handled, as its inbox remembers it.

    Attributes:
        table: The inbox's table.
        consumer: Who handles the messages; empty where there is one only.
        messages: How many are remembered; one more than ``most_counted`` where there are more.
        handled_at: When the last one was handled.
    """

    table: str
    consumer: str
    messages: int
    handled_at: datetime


def show_subscriptions(visit: Visit) -> Response:
    """Show all publishers and other subscriptions, and the inboxes."""
    subscriptions = _subscriptions(visit.tables)
    received = [each for table in _inboxes(visit.tables) for each in _received(visit, table)]
    return visit.render(
        "subscriptions.html",
        received=received,
        has_inbox=bool(_inboxes(visit.tables)),
        most_counted=_MOST_COUNTED,
        statuses=list(zip(subscriptions, statuses_of(visit, subscriptions), strict=True)),
        is_publisher=_is_publisher,
        well=WELL,
        in_short=in_short,
    )


def show_subscription(visit: Visit) -> Response:
    """Show one publisher or subscription."""
    name = visit.asked("name")
    found = next((each for each in _subscriptions(visit.tables) if each.name == name), None)
    if found is None:
        raise HTTPException(404, f"There is no publisher and no subscription {name}. Is its module imported?")
    lanes, parked = lanes_of(visit, found), parked_by(visit, found)
    return visit.render(
        "subscription.html",
        subscription=found,
        is_publisher=_is_publisher(found),
        lanes=lanes,
        parked=parked,
        progress=statuses_of(visit, [found])[0],
        well=WELL,
        in_short=in_short,
    )


def _is_publisher(subscription: Subscription) -> bool:
    return isinstance(subscription, Relay)


def _subscriptions(tables: EventSourceTables) -> list[Subscription]:
    return [each for each in subscriptions_on(tables) if not isinstance(each, ProcessSubscription)]


def _inboxes(tables: EventSourceTables) -> list[Table]:
    return inbox_tables(tables.events.metadata)


def _received(visit: Visit, table: Table) -> list[Received]:
    """Ask an inbox for each consumer, from name to name along its primary key, however many messages each has."""
    following = table.alias("following")
    first: Any = select(func.min(table.c.consumer).label("name"), literal(1).label("number"))
    names = first.cte("names", recursive=True)
    behind = select(func.min(following.c.consumer)).where(following.c.consumer > names.c.name).scalar_subquery()
    more = select(behind, names.c.number + 1).where(names.c.name.is_not(None), names.c.number < _MOST_CONSUMERS)
    names = names.union_all(more)
    found = []
    for name in visit.connection.execute(select(names.c.name).where(names.c.name.is_not(None))).scalars().all():
        some = select(table.c.message_id).where(table.c.consumer == name).limit(_MOST_COUNTED + 1).subquery()
        number = visit.connection.execute(select(func.count()).select_from(some)).scalar_one()
        newest = select(table.c.handled_at).where(table.c.consumer == name).order_by(table.c.handled_at.desc()).limit(1)
        found.append(Received(table.name, name, number, visit.connection.execute(newest).scalar_one()))
    return found


PAGE = Page(
    addresses=(
        Address("subscriptions", "/subscriptions", show_subscriptions),
        Address("subscription", "/subscriptions/one", show_subscription),
    ),
    navigation="Publishers",
    is_there=lambda tables: bool(_subscriptions(tables) or _inboxes(tables)),
)
