"""An option of a class that would have no effect is refused: misspelt, of another kind of class, or of another type."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, ReadModel, map_from_event
from sa_eventsource.class_options import Kind
from sa_eventsource.mapping import EventSourceOptions, tables_on


class OptionSet(DomainEvent):
    """An event."""

    __event_type__ = "options.OptionSet"

    name: str = ""


def _event(body: dict[str, Any], *mixins: type[Any]) -> type[DomainEvent]:
    made: type[DomainEvent] = type(
        "Told", (*mixins, DomainEvent), {"__module__": __name__, "__event_type__": "options.Told", **body}
    )
    return made


def _aggregate(body: dict[str, Any], *mixins: type[Any]) -> Any:
    base = type("Base", (DeclarativeBase,), {})
    body = {"__module__": __name__, "__ignored_events__": (OptionSet,), **body}
    return type("Told", (*mixins, AggregateRoot, base), body)


def _model(body: dict[str, Any], *mixins: type[Any]) -> Any:
    base = type("Base", (DeclarativeBase,), {})
    fields = {"__annotations__": {"id": Mapped[str], "name": Mapped[str]}, "name": map_from_event(OptionSet)}
    return type("Told", (*mixins, ReadModel, base), {"__module__": __name__, **fields, **body})


_MISSPELT = [
    (_event, "__event_verison__", 2, "__event_version__"),
    (_event, "__eventtype__", "told", "__event_type__"),
    (_event, "__former_type__", ("Old",), "__former_types__"),
    (_event, "__abstrakt__", True, "__abstract__"),
    (_aggregate, "__agregate_type__", "told", "__aggregate_type__"),
    (_aggregate, "__snapshot_frequncy__", 10, "__snapshot_frequency__"),
    (_aggregate, "__snapshots_version__", 2, "__snapshot_version__"),
    (_aggregate, "__ignore_events__", (), "__ignored_events__"),
    (_aggregate, "__eventsourced__", EventSourceOptions(), "__eventsource__"),
    (_model, "__consistancy__", "strong", "__consistency__"),
    (_model, "__onerror__", "park", "__on_error__"),
    (_model, "__removed__", (OptionSet,), "__removed_by__"),
    (_model, "__Consistency__", "strong", "__consistency__"),
    (_model, "__removed_on__", (OptionSet,), "__removed_by__"),
    (_model, "__versoin__", 2, "__version__"),
    (_model, "__shard__", 2, "__shards__"),
    (_model, "__index__", (("id", "name"),), "__indexes__"),
    (_model, "__projection_names__", "told", "__projection_name__"),
    (_model, "__table_name__", "told", "__tablename__"),
]


@pytest.mark.parametrize(("declare", "option", "value", "meant"), _MISSPELT, ids=lambda each: each if isinstance(each, str) else "")
def test_a_misspelt_option_is_refused_with_the_one_that_is_meant(declare: Any, option: str, value: Any, meant: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Told sets {option}, which is no option.* Write {meant}\."):
        declare({option: value})


@pytest.mark.parametrize("declare", [_event, _aggregate, _model])
def test_a_misspelt_option_of_a_mixin_is_refused(declare: Any) -> None:
    mixin = type("Shared", (), {"__module__": __name__, "__consistancy__": "strong"})
    with pytest.raises(DeclarationError, match="Shared sets __consistancy__"):
        declare({}, mixin)


@pytest.mark.parametrize("kind", [AggregateRoot, ReadModel])
def test_a_misspelt_option_of_the_declarative_base_is_refused(kind: type[Any]) -> None:
    class Base(DeclarativeBase):
        __eventsourced__ = EventSourceOptions(events="told")

    with pytest.raises(DeclarationError, match=r"Base sets __eventsourced__, .* Write __eventsource__"):
        type("Told", (kind, Base), {"__ignored_events__": (OptionSet,)} if kind is AggregateRoot else {})


def test_an_option_without_its_last_underscores_is_refused() -> None:
    """Python makes a private name of it: the option would not be set."""
    with pytest.raises(DeclarationError, match=r"Told sets __snapshot_frequency, .* Write __snapshot_frequency__"):

        class Told(AggregateRoot, type("Base", (DeclarativeBase,), {})):  # type: ignore[misc]
            __snapshot_frequency = 10

    with pytest.raises(DeclarationError, match=r"Renamed sets __event_version, .* Write __event_version__"):

        class Renamed(DomainEvent):
            __event_version = 2


@pytest.mark.parametrize(
    ("declare", "option", "words"),
    [
        (_event, "__version__", "option of read models. The options of an event are __event_type__, __event_version__"),
        (_event, "__aggregate_type__", "option of aggregates"),
        (_aggregate, "__consistency__", "option of read models. The options of an aggregate are"),
        (_aggregate, "__former_types__", 'After renaming the class, keep that name: __aggregate_type__ = "..."'),
        (_model, "__snapshot_frequency__", "option of aggregates. The options of a read model are"),
    ],
)
def test_an_option_of_another_kind_of_class_is_refused(declare: Any, option: str, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare({option: 2})
    assert words in str(caught.value)


def test_names_of_python_and_of_other_libraries_are_left_alone() -> None:
    body: dict[str, Any] = {
        "__slots__": (),
        "__index__": lambda self: 1,
        "__versioned__": {},
        "__versioning__": {},
        "__version_id__": 1,
        "__source__": "x",
        "__audit__": True,
        "__bind_key__": "other",
        "__searchable__": ["name"],
        "__acl__": (),
        "__json__": lambda self: {},
        "_version": 3,
    }
    _event({name: value for name, value in body.items() if name != "__slots__"})
    _aggregate(body)
    _model({**body, "__tablename__": "told", "__table_args__": {"info": {}}})
    _model({"__mapper_args__": {}})


def test_options_that_a_base_shares_among_kinds_are_taken() -> None:
    class Base(DeclarativeBase):
        __consistency__ = "strong"
        __snapshot_frequency__ = 10

    class Told(AggregateRoot, Base):  # type: ignore[misc]
        __ignored_events__ = (OptionSet,)

    class Shown(ReadModel, Base):  # type: ignore[misc]
        id: Mapped[str]
        name: Mapped[str] = map_from_event(OptionSet)

    assert tables_on(Base.metadata).read_models["Shown"].consistency == "eventual"  # the nearest class in the order says so
    assert Told.__aggregate_definition__.snapshot_frequency is None


@pytest.mark.parametrize(
    ("kind", "root"), [(Kind.EVENT, DomainEvent), (Kind.AGGREGATE, AggregateRoot), (Kind.READ_MODEL, ReadModel)]
)
def test_every_option_of_a_class_is_known(kind: Kind, root: type[Any]) -> None:
    """What the base classes declare for applications to set."""
    for_the_library = {"__state_fields__", "__event_handlers__", "__aggregate_definition__", "__read_model_definition__"}
    dunders = {name for name in vars(root)["__annotations__"] if name.startswith("__")}
    assert dunders - for_the_library - set(BaseModel.__annotations__) <= set(kind.options)


@pytest.mark.parametrize(
    ("declare", "option", "value", "cure"),
    [
        (_event, "__former_types__", "Old", "names: __former_types__ = ('Old',)"),
        (_event, "__former_types__", 3, '__former_types__ = ("OldName",)'),
        (_event, "__former_types__", (OptionSet,), '__former_types__ = ("OldName",)'),
        (_aggregate, "__ignored_events__", OptionSet, "event classes: __ignored_events__ = (OptionSet,)"),
        (_aggregate, "__ignored_events__", (int,), "__ignored_events__ = (OrderCancelled,)"),
        (_aggregate, "__ignored_events__", None, "__ignored_events__ = (OrderCancelled,)"),
        (_model, "__removed_by__", OptionSet, "__removed_by__ = (OptionSet,)"),
        (_model, "__indexes__", "name", '__indexes__ = (("city", "status"),)'),
        (_model, "__indexes__", ("id", "name"), "__indexes__ = (('id', 'name'),)"),
        (_model, "__indexes__", 7, '__indexes__ = (("city", "status"),)'),
    ],
)
def test_one_thing_where_several_are_wanted_is_refused_with_the_cure(declare: Any, option: str, value: Any, cure: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare({option: value})
    assert str(caught.value).startswith(f"Told.{option} is ")
    assert cure in str(caught.value)


@pytest.mark.parametrize("several", [list, set, tuple])
def test_several_things_may_lie_in_any_collection(several: Any) -> None:
    assert _event({"__former_types__": several(["options.ToldBefore"])}).__former_types__ == ("options.ToldBefore",)
    assert OptionSet in _aggregate({"__ignored_events__": several([OptionSet])}).__event_handlers__.functions()


@pytest.mark.parametrize("given", [{"events": "told"}, EventSourceOptions, "told"])
def test_eventsource_options_of_another_type_are_refused(given: Any) -> None:
    with pytest.raises(DeclarationError, match=r"__eventsource__ is .*it must be EventSourceOptions\(\.\.\.\)"):
        _aggregate({"__eventsource__": given})


def test_a_column_of_an_own_table_may_have_any_name() -> None:
    class Base(DeclarativeBase):
        pass

    class Shown(ReadModel, Base):
        __tablename__ = "shown"
        name: Mapped[str] = map_from_event(OptionSet)
        consistancy: Mapped[str | None] = mapped_column()

    assert "consistancy" in Shown.__table__.c


@pytest.mark.parametrize(("declare", "option"), [(_event, "__event_type__"), (_aggregate, "__aggregate_type__")])
@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00b", 5], ids=["empty", "too long", "a NUL", "no text"])
def test_a_name_that_cannot_be_stored_is_refused(declare: Any, option: str, name: Any) -> None:
    with pytest.raises(DeclarationError, match="1 to 255 characters"):
        declare({option: name})


@pytest.mark.parametrize(("declare", "option"), [(_event, "__event_type__"), (_aggregate, "__aggregate_type__")])
def test_a_name_may_have_255_characters(declare: Any, option: str) -> None:
    declare({option: "x" * 255})
