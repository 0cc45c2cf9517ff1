"""What the library calls must be plain functions: a call of a coroutine or generator function runs nothing, and says nothing."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    ReadModel,
    ReadModelError,
    applies,
    event_record,
    handles,
    subscribe,
    upcast,
)

pytestmark = pytest.mark.slow_on_sqlite


class Rung(DomainEvent):
    """A bell was rung."""

    __event_type__ = "plain.Rung"


async def _coroutine(*_: Any) -> None:
    pass


def _generator(*_: Any) -> Iterator[None]:
    yield


async def _asynchronous_generator(*_: Any) -> AsyncIterator[None]:
    yield


class _Called:
    async def __call__(self, *_: Any) -> None:
        pass


_IDLE = {
    "coroutine": (_coroutine, r"coroutine function \(async def\)"),
    "generator": (_generator, "generator function .it has a yield."),
    "asynchronous generator": (_asynchronous_generator, "asynchronous generator function"),
}
_all_kinds = pytest.mark.parametrize(("function", "kind"), _IDLE.values(), ids=_IDLE)


def _copy(function: Any) -> Any:
    """Make a function that can be marked without marking the one for other tests."""
    return type(function)(function.__code__, function.__globals__, function.__name__)


def _base() -> Any:
    return type("Base", (DeclarativeBase,), {})


@_all_kinds
def test_applies_refuses_it_when_the_class_is_defined(function: Any, kind: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Bell\._rung, which @applies Rung, is an? {kind}.*plain method"):
        type("Bell", (AggregateRoot, _base()), {"_rung": applies(Rung)(_copy(function))})


def test_applies_refuses_it_in_a_subclass_that_overrides_a_plain_method_by_name() -> None:
    class Bell(AggregateRoot, _base()):  # type: ignore[misc]
        @applies(Rung)
        def _rung(self, event: Rung) -> None:
            pass

    with pytest.raises(DeclarationError, match=r"Loud\._rung"):

        class Loud(Bell):
            async def _rung(self, event: Rung) -> None:  # type: ignore[override]
                pass


def _model(method: Any, base: Any) -> Any:
    columns = {"__annotations__": {"id": Mapped[str]}, "id": mapped_column(primary_key=True)}
    return type("Board", (ReadModel, base), {"__tablename__": "boards", "__consistency__": "strong", **columns, "take": method})


@pytest.mark.parametrize("wrap", [classmethod, staticmethod, lambda function: function])
@_all_kinds
def test_handles_refuses_it_when_the_class_is_defined(function: Any, kind: str, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(DeclarationError, match=rf"Board\.take, which @handles Rung, is an? {kind}.*gets a Session"):
        _model(wrap(handles(Rung)(_copy(function))), _base())


@pytest.mark.parametrize("given", [*(function for function, _ in _IDLE.values()), functools.partial(_coroutine, 1)])
def test_subscribe_refuses_it(given: Any) -> None:
    functools.update_wrapper(given, _coroutine)
    with pytest.raises(DeclarationError, match=r"subscription 'plain': .* a call would run nothing of it"):
        subscribe("plain", Rung)(given)


@_all_kinds
def test_upcast_refuses_it(function: Any, kind: str) -> None:
    with pytest.raises(DeclarationError, match=f"the upcaster .* is an? {kind}"):
        upcast("plain.Rung", from_version=1)(function)


def test_an_object_whose_call_is_a_coroutine_function_is_refused() -> None:
    with pytest.raises(DeclarationError, match="coroutine function"):
        type("Bell", (AggregateRoot, _base()), {"_rung": applies(Rung)(_Called())})  # type: ignore[arg-type]


def _hiding(function: Any) -> Any:
    """Wrap a function as a decorator does that knows nothing of coroutines."""

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    return call


@_all_kinds
def test_what_a_wrapper_hides_is_refused_when_the_event_is_applied(engine: Engine, function: Any, kind: str) -> None:
    base = _base()
    bell_class: Any = type("Bell", (AggregateRoot, base), {"_rung": applies(Rung)(_hiding(function))})
    base.metadata.create_all(engine)
    bell = bell_class(id="b")
    with pytest.raises(TypeError, match=r"the @applies method of Bell for Rung returned .*nothing of it has run"):
        bell.apply_event(Rung())
    assert (bell.version, bell.pending_events) == (0, ())


@_all_kinds
def test_what_a_wrapper_hides_is_refused_when_a_handler_is_called(engine: Engine, function: Any, kind: str) -> None:
    base = _base()
    bell_class: Any = type("Bell", (AggregateRoot, base), {"__ignored_events__": (Rung,)})
    _model(classmethod(handles(Rung)(_hiding(function))), base)
    base.metadata.create_all(engine)
    bell = bell_class(id="b")
    bell.apply_event(Rung())
    with Session(engine) as session:
        session.add(bell)
        with pytest.raises(ReadModelError, match=r"the handler for Rung returned .*nothing of it has run"):
            session.commit()
        session.rollback()
        assert session.scalar(select(func.count()).select_from(event_record(base))) == 0
