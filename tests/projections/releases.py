"""Two releases of one application: the second declares its read models anew. ``RELEASE`` chooses that of a process."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import ReadModel, map_from_event
from sa_eventsource.read_models import count, sum_
from tests.bank import AnyAccount, Deposited


def release(number: int) -> tuple[type[Any], type[Any]]:
    """Declare what release *number* does: its base and its aggregate."""

    class Base(DeclarativeBase):
        pass

    class Account(AnyAccount, Base):
        __aggregate_type__ = "releases.Account"

    if number == 1:

        class Takings(ReadModel, Base):
            __projection_name__ = "takings"

            total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))

        class Branches(ReadModel, Base):
            __tablename__ = "branches"
            __projection_name__ = "branches"

            branch: Mapped[str] = map_from_event(Deposited, key=True)
            total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))

    else:

        class TakingsOfTwo(ReadModel, Base):
            __projection_name__ = "takings"
            __version__ = 2

            total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))
            number: Mapped[int] = map_from_event(Deposited, reduce=count())

        class BranchesOfTwo(ReadModel, Base):
            __tablename__ = "branches"
            __projection_name__ = "branches"
            __version__ = 2

            branch: Mapped[str] = map_from_event(Deposited, key=True)
            number: Mapped[int] = map_from_event(Deposited, reduce=count())

    return Base, Account


Base, Account = release(int(os.environ.get("RELEASE", "1")))
