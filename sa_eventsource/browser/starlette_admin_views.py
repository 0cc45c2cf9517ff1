"""Views of read models for an application that has starlette-admin: read only, linked to the event browser.

They are not its views of SQLAlchemy models, which are for tables: rows of the shared table have no columns of their own.
"""

# ruff: noqa: ARG002 - the signatures are those of starlette-admin

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Text, cast, false, func, or_, select
from starlette.exceptions import HTTPException
from starlette_admin import StringField, link_row_action  # pyright: ignore[reportMissingImports] - whoever uses this has it
from starlette_admin.views import BaseModelView, Link  # pyright: ignore[reportMissingImports]

from sa_eventsource.browser.admin_links import AdministeredModel, administered_models
from sa_eventsource.browser.threads import in_thread
from sa_eventsource.mapping import maker_of_new_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import ColumnElement
    from starlette.requests import Request
    from starlette_admin.views import BaseView  # pyright: ignore[reportMissingImports]


_LARGEST = 2**63 - 1
"""The largest number that the database takes, of rows to skip and of a key."""


def read_model_views(
    base: Any, sessions: Engine | Callable[[], Session], *, browser: str, personal_data: bool = False
) -> list[BaseView]:
    """Make a view for each read model, and a link to the events.

    Example::

        for view in read_model_views(Base, engine, browser="/events"):
            admin.add_view(view)

    Who may look is decided by the ``Admin``.

    Args:
        base: The declarative base.
        sessions: An engine, or what makes sessions: where tenants share the tables, a tenant's (``session.info``).
        browser: The path that the :class:`~sa_eventsource.browser.Browser` is mounted at, such as ``"/events"``.
        personal_data: Whether there are views of models with ``__personal_data__ = "clear"``.

    Raises:
        TypeError: *sessions* is neither an engine nor makes sessions, is a ``scoped_session``, or is of an ``AsyncEngine``.
    """
    new_session = maker_of_new_sessions("read_model_views()", sessions)
    models = administered_models(base, browser, personal_data=personal_data)
    views: list[BaseView] = [_ReadModelView(each, new_session) for each in models]
    return [*views, Link(menu_label="Events", url=f"{browser.rstrip('/')}/log")]


class _ReadModelView(BaseModelView):  # type: ignore[misc, unused-ignore]
    """A read model, which events alone change."""

    def __init__(self, administered: AdministeredModel, new_session: Callable[[], Session]) -> None:
        """Take the model, and what makes sessions."""
        self._administered, self._new_session = administered, new_session
        self.key = self.menu_label = self.display_name = administered.name
        # Texts, which are shown, sorted and looked for as such; filters of a kind would have to be known to the database too.
        self.fields = [StringField(name, filters=[]) for name in administered.columns]
        self.pk_attr = administered.key[0]
        super().__init__()

    def can_create(self, request: Request) -> bool:
        """Never."""
        return False

    def can_edit(self, request: Request) -> bool:
        """Never."""
        return False

    def can_delete(self, request: Request) -> bool:
        """Never."""
        return False

    def can_import(self, request: Request) -> bool:
        """Never."""
        return False

    async def find_all(  # noqa: PLR0913, PLR0917
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: Any = None,
    ) -> Sequence[Any]:
        """Read a page of rows."""
        model = self._administered.model
        order = [getattr(model, name).desc() if way == "desc" else getattr(model, name) for name, way in sorts or ()]
        order += [getattr(model, name) for name in self._administered.key]
        statement = select(model).where(*self._contains(q)).order_by(*order).offset(min(skip, _LARGEST))
        return await self._read(statement if limit < 0 else statement.limit(limit))

    async def count(self, request: Request, q: str | None = None, filters: Any = None) -> int:
        """Count the rows."""
        (number,) = await self._read(select(func.count()).select_from(self._administered.model).where(*self._contains(q)))
        return int(number)

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """Read the row of a key."""
        found = await self.find_by_pks(request, [pk])
        return found[0] if found else None

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """Read the rows of some keys."""
        if self._has_parts:
            return []
        model, (name,) = self._administered.model, self._administered.key
        kind = getattr(model, name).type.python_type
        try:
            wanted = [kind(str(each)) if kind in (int, UUID) else each for each in pks]
        except ValueError:
            return []
        if any((isinstance(each, int) and abs(each) > _LARGEST) or "\0" in str(each) for each in wanted):
            return []  # no row has such a key, and the database takes none
        return await self._read(select(model).where(getattr(model, name).in_(wanted)))

    def can_view_detail(self, request: Request) -> bool:
        """Rows whose key has several parts have no page of their own."""
        return not self._has_parts

    async def get_pk_value(self, request: Request, obj: Any) -> Any:
        """Give a row's key as a text."""
        return ", ".join(str(getattr(obj, name)) for name in self._administered.key)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        """Refuse: events alone change a read model.

        Raises:
            HTTPException: Always.
        """
        raise HTTPException(403, "Events alone change a read model.")

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        """Refuse, as :meth:`create`.

        Raises:
            HTTPException: Always.
        """
        raise HTTPException(403, "Events alone change a read model.")

    async def delete(self, request: Request, pks: list[Any]) -> int | None:
        """Refuse, as :meth:`create`.

        Raises:
            HTTPException: Always.
        """
        raise HTTPException(403, "Events alone change a read model.")

    @link_row_action(name="in_event_browser", text="In the event browser")  # type: ignore[untyped-decorator, unused-ignore]
    def in_event_browser(self, request: Request, pk: Any) -> str:
        """Lead to the aggregate that the row is of, or to the page of the model."""
        return self._administered.address_of(pk)

    @property
    def _has_parts(self) -> bool:
        return len(self._administered.key) > 1

    def _contains(self, q: str | None) -> list[ColumnElement[bool]]:
        if not q:
            return []
        if "\0" in q:
            return [false()]  # which no text has, and PostgreSQL takes none with it
        columns = (getattr(self._administered.model, name) for name in self._administered.columns)
        return [or_(*(cast(each, Text).icontains(q, autoescape=True) for each in columns))]

    async def _read(self, statement: Any) -> Sequence[Any]:
        def read() -> Sequence[Any]:
            with self._new_session() as session:
                return session.scalars(statement).all()

        return await in_thread(read)
