"""A flush gives an aggregate no values, as the table of differences says."""

from __future__ import annotations

from sqlalchemy import Engine, event, func
from sqlalchemy.orm import Mapped, Session, mapped_column

from tests.twin.accounts import Account, TwinBase


class Dated(TwinBase):
    """An entity with a value that the database gives."""

    __tablename__ = "twin_dated"

    id: Mapped[str] = mapped_column(primary_key=True)
    marked_on: Mapped[str] = mapped_column(server_default=func.current_date())


def test_refresh_flush_is_called_for_values_that_the_database_gives_and_an_aggregate_has_none(
    sqlite_engines: tuple[Engine, Engine],
) -> None:
    told: list[type] = []

    def listener(instance: object, _context: object, _names: object) -> None:
        told.append(type(instance))

    for kind in (Account, Dated):
        event.listen(kind, "refresh_flush", listener)
    try:
        with Session(sqlite_engines[1]) as session:
            session.add(Dated(id="d-1"))
            session.flush()
        with Session(sqlite_engines[0]) as session:
            account = Account(id="a-1")
            account.change("m-1")
            session.add(account)
            session.flush()
            assert (account.version, account.marks) == (1, ("m-1",))
    finally:
        for kind in (Account, Dated):
            event.remove(kind, "refresh_flush", listener)
    assert told == [Dated]
