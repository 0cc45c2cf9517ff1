"""What follows the log of a declarative base by itself: its eventual read models, and the subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.consumers.named_subscriptions import subscriptions_on
from sa_eventsource.exceptions import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sa_eventsource.consumers.consumer import Consumer
    from sa_eventsource.mapping import EventSourceTables


def consumers_on(tables: EventSourceTables) -> list[Consumer]:
    """List all of them by name.

    Raises:
        DeclarationError: A subscription has the name of a read model.
    """
    eventual = [model for _, model in sorted(tables.read_models.items()) if not model.is_strong]
    return [*eventual, *subscriptions_on(tables)]


def chosen_consumers(tables: EventSourceTables, names: Collection[str] | None) -> list[Consumer]:
    """List those of some names; of None, all.

    Raises:
        UnknownNameError: There is none of a name.
        TypeError: *names* is one text.
    """
    if isinstance(names, str):
        raise TypeError(f"only={names!r}: pass a list of names, such as only=[{names!r}]")
    known = {consumer.name: consumer for consumer in consumers_on(tables)}
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            message = f"no eventual read model and no subscription has the name {name!r}; there are: {', '.join(known) or 'none'}"
            raise UnknownNameError(message, name, known)
    return [known[name] for name in dict.fromkeys(names)]
