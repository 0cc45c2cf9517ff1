"""A library whose books are lent, and read models of all sorts that follow from it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, ReadModelManager, RecordedEvent, evolves, handles, map_from_event
from sa_eventsource.read_models import append, count, day, sum_

START = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)


class Base(DeclarativeBase):
    """Base of the library's classes."""


class Shelf(Enum):
    """Where a book stands."""

    NOVELS = "novels"
    SCIENCE = "science"


class BookBought(DomainEvent):
    """The library bought a book."""

    __event_type__ = "library.BookBought"
    title: str
    shelf: Shelf
    price: Decimal
    is_rare: bool = False
    printed: date | None = None


class BookLent(DomainEvent):
    """Somebody took it home."""

    __event_type__ = "library.BookLent"
    reader: str
    due: datetime | None = None


class BookSold(DomainEvent):
    """The library has it no more."""

    __event_type__ = "library.BookSold"


class Book(AggregateRoot[str], Base):
    """A book."""

    __aggregate_type__ = "library.Book"
    __ignored_events__ = (BookBought, BookLent, BookSold)


class Branch(AggregateRoot[UUID], Base):
    """A branch, which buys books too."""

    __aggregate_type__ = "library.Branch"
    __ignored_events__ = (BookSold,)


class SharedBook(ReadModel, Base):
    """Rows of the shared table."""

    __projection_name__ = "library_shared"
    __removed_by__ = (BookSold,)
    __aggregates__ = (Book,)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    title: Mapped[str] = map_from_event(BookBought, index=True)
    shelf: Mapped[Shelf] = map_from_event(BookBought)
    price: Mapped[Decimal] = map_from_event(BookBought)
    is_rare: Mapped[bool] = map_from_event(BookBought)
    printed: Mapped[date | None] = map_from_event(BookBought)
    due: Mapped[datetime | None] = map_from_event(BookLent)
    readers: Mapped[list[str]] = map_from_event(BookLent, source="reader", reduce=append())


class OwnBook(ReadModel, Base):
    """The same in a table of its own."""

    __projection_name__ = "library_own"
    __tablename__ = "library_own"
    __removed_by__ = (BookSold,)
    __aggregates__ = (Book,)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    title: Mapped[str] = map_from_event(BookBought, column=mapped_column("book_title", index=True))
    shelf: Mapped[Shelf] = map_from_event(BookBought)
    price: Mapped[Decimal] = map_from_event(BookBought)
    is_rare: Mapped[bool] = map_from_event(BookBought)
    printed: Mapped[date | None] = map_from_event(BookBought)
    due: Mapped[datetime | None] = map_from_event(BookLent)
    readers: Mapped[list[str]] = map_from_event(BookLent, source="reader", reduce=append())


class LentOnDay(ReadModel, Base):
    """A key of two parts, of which many streams feed a row."""

    __projection_name__ = "library_days"

    on: Mapped[date] = map_from_event(key=True, source=day("occurred_at", "UTC"))
    reader: Mapped[str] = map_from_event(BookLent, key=True)
    number: Mapped[int] = map_from_event(BookLent, reduce=count())


class OnShelf(ReadModel, Base):
    """A key that is a field of the event."""

    __projection_name__ = "library_shelves"
    __tablename__ = "library_shelves"

    shelf: Mapped[Shelf] = map_from_event(BookBought, key=True)
    books: Mapped[int] = map_from_event(BookBought, reduce=count())
    worth: Mapped[Decimal] = map_from_event(BookBought, reduce=sum_("price"))


class Popularity(ReadModel, Base):
    """Rows that a method works out."""

    __projection_name__ = "library_popularity"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    lent: Mapped[int | None]
    last_reader: Mapped[str | None]

    @evolves(BookLent)
    def _lent(self, recorded: RecordedEvent[BookLent]) -> None:
        if recorded.event.reader == "nobody":
            raise ValueError("nobody reads")
        self.lent, self.last_reader = (self.lent or 0) + 1, recorded.event.reader


class Noticed(ReadModel, Base):
    """Rows that a handler writes."""

    __projection_name__ = "library_noticed"
    __tablename__ = "library_noticed"

    number: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]

    @classmethod
    @handles(BookBought)
    def _bought(cls, recorded: RecordedEvent[BookBought], session: Session) -> None:
        session.connection().execute(
            cls.__table__.insert().values(number=recorded.position, title=recorded.event.title)  # type: ignore[attr-defined]
        )


MODELS = (SharedBook, OwnBook, LentOnDay, OnShelf, Popularity, Noticed)


def fill(engine: Engine, number: int = 60) -> None:
    """Buy books: every third a rare one that was printed on some day, the others never printed; lend some; let models follow."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for each in range(number):
            is_rare = each % 3 == 0
            book = Book(id=f"b-{each:03}")
            shelf = Shelf.NOVELS if each % 2 else Shelf.SCIENCE
            bought = BookBought(
                title=f"Title {each % 7} <b>",
                shelf=shelf,
                price=Decimal(each) / 4,
                is_rare=is_rare,
                printed=date(1900, 1, 1) + timedelta(days=each) if is_rare else None,
            )
            book.apply_event(bought, occurred_at=START + timedelta(minutes=each))
            for times in range(each % 4):
                lent = BookLent(reader=f"r-{times}", due=START + timedelta(days=each + times))
                book.apply_event(lent, occurred_at=START + timedelta(hours=each, minutes=times))
            session.add(book)
        session.commit()
    follow(engine)


def record(engine: Engine, book_id: str, *events: Any) -> None:
    """Append events of a book, each in a transaction of its own; let models follow."""
    for event in events:
        with Session(engine) as session:
            session.get_one(Book, book_id).apply_event(event)
            session.commit()
    follow(engine)


def follow(engine: Engine) -> None:
    """Let all models take what there is."""
    ReadModelManager(engine, Base).catch_up()
