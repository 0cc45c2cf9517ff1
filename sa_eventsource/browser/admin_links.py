"""What views of read models in another administration have in common: which models, which columns, and where each row links to.

There is no view of events. sqladmin and starlette-admin count all rows for each page and page by OFFSET, show what they read
through a session of their own, and know neither placeholders nor tenants: the log is looked at in the browser, to which they link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from markupsafe import Markup
from sqlalchemy import inspect

from sa_eventsource.aggregates import definition_of
from sa_eventsource.browser.model_words import key_in_words
from sa_eventsource.browser.shown_text import escaped
from sa_eventsource.consumers import owners_of
from sa_eventsource.mapping import TENANT_ID, tables_of_base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.read_models import ReadModelDefinition

_LINK = Markup('<a href="{}">{}</a>')


@dataclass(frozen=True, slots=True)
class AdministeredModel:
    """A read model, as an administration shows it.

    Attributes:
        model: The class.
        name: Its name.
        columns: The names of its attributes that are shown.
        key: The attributes that identify a row.
        address: The path of its page in the browser.
        of_stream: What the path of an aggregate's page begins with, where a row is of one aggregate; the id is to follow.
    """

    model: type[Any]
    name: str
    columns: Sequence[str]
    key: Sequence[str]
    address: str
    of_stream: str | None

    def address_of(self, key: Any) -> str:
        """Give the path of the page of the aggregate that a row is of, or else of the model's."""
        return self.address if self.of_stream is None else f"{self.of_stream}&{urlencode({'id': key})}"

    def link(self, value: Any) -> Markup:
        """Show a part of a row's key as a link to that page."""
        return _LINK.format(self.address_of(value), escaped(str(value)))


def administered_models(base: Any, browser: str, *, personal_data: bool) -> list[AdministeredModel]:
    """List the read models of a base, by name.

    Args:
        base: The declarative base.
        browser: The path that the browser is mounted at, such as ``"/events"``.
        personal_data: Whether to list those that hold personal data in clear.
    """
    prefix = browser.rstrip("/")
    found = []
    for name, definition in sorted(tables_of_base("read_model_views()", base).read_models.items()):
        if definition.takes_personal_data == "clear" and not personal_data:
            continue
        mapper = inspect(definition.model)
        key = [mapper.get_property_by_column(each).key for each in mapper.primary_key]
        shown = [each.key for each in mapper.column_attrs if not each.key.startswith("_")]
        of_type = _aggregate_type(definition)
        found.append(
            AdministeredModel(
                definition.model,
                name,
                columns=[each for each in shown if each != TENANT_ID],
                key=[each for each in key if each != TENANT_ID],
                address=f"{prefix}/models/one?{urlencode({'name': name})}",
                of_stream=None if of_type is None else f"{prefix}/stream?{urlencode({'type': of_type})}",
            )
        )
    return found


def _aggregate_type(definition: ReadModelDefinition) -> str | None:
    """Find the type of the aggregates that rows are of, each of one; None where that is not so, or there are several types."""
    if [words for _, words in key_in_words(definition)] != ["aggregate_id"]:
        return None
    types = {definition_of(each).aggregate_type for each in owners_of(definition.tables, definition.event_classes.values())}
    return types.pop() if len(types) == 1 else None
