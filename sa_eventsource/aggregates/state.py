"""An aggregate's state fields: annotated class attributes that are neither columns nor lost on refresh.

Their values live in the instance's ``__dict__``. The attribute on the class is only asked when a value is not there, which is when
the instance is expired: it then has the session load the aggregate, as for any expired attribute.
"""

from __future__ import annotations

import copy
import json
import typing
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter
from typing_extensions import TypedDict

from sa_eventsource.aggregates.annotations import own_annotations, resolved, shielded
from sa_eventsource.aggregates.core_schema import CoreSchema
from sa_eventsource.aggregates.declared_state import DeclaredState
from sa_eventsource.application_errors import text_of
from sa_eventsource.events import as_text, difference, parsed, shown
from sa_eventsource.exceptions import DeclarationError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sa_eventsource.events import Difference


_UNSET = "-unset"
"""Key under which a stored state lists the fields that no event has set yet, so that no other may be missing. No field's name."""


class StateFields:
    """The state fields of one aggregate class, its own and inherited ones."""

    def __init__(self, aggregate_class: type[Any], load: Callable[[Any], None], *, reserved: frozenset[str]) -> None:
        """Collect the fields of the class, its bases and its mixins, and put a :class:`StateField` on the class for each of them.

        Args:
            aggregate_class: The class.
            load: Loads the state of an instance that has none; called when a field is read then.
            reserved: Names that a state field must not have.

        Raises:
            DeclarationError: A declaration of state cannot be.
        """
        self._aggregate_class = aggregate_class
        fields = DeclaredState(aggregate_class, reserved).collect(load)
        for name, field in fields.items():
            if getattr_static(aggregate_class, name, None) is not field:
                setattr(aggregate_class, name, field)
        self.names = frozenset(fields)
        self._shield()
        self._constants: dict[str, Any] = {}
        self._factories: dict[str, Callable[[], Any]] = {}
        for name, field in fields.items():
            if field.default is None:
                continue
            if field.default.default_factory is not None:
                self._factories[name] = typing.cast("Callable[[], Any]", field.default.default_factory)
            elif self._copied(name, field.default.default) is field.default.default:
                self._constants[name] = field.default.default
            else:
                self._factories[name] = _copier(field.default.default)
        self._without_default = tuple(self.names - self._constants.keys() - self._factories.keys())
        self._adapter: TypeAdapter[dict[str, Any]] | None = None

    def reset(self, values: dict[str, Any]) -> None:
        """Give every field in *values* (an instance's ``__dict__``) its default, and drop those without one."""
        for name in self._without_default:
            values.pop(name, None)
        values.update(self._constants)
        for name, factory in self._factories.items():
            values[name] = factory()

    def drop(self, values: dict[str, Any]) -> None:
        """Remove every field from *values*, so that the next read loads the aggregate."""
        for name in self.names:
            values.pop(name, None)

    def dump(self, values: Mapping[str, Any]) -> str:
        """Write the state as JSON text that a column of PostgreSQL's ``jsonb`` gives back exactly.

        That is an object of the fields; where ``jsonb`` would lose something of it, such as the order of a dict, its text in a JSON
        string.

        Raises:
            SnapshotError: A value does not fit its annotation, or would not come back as it is.
        """
        state = {name: values[name] for name in sorted(self.names) if name in values}
        reason = ""
        for form in self._forms(state):
            try:
                stored = as_text(parsed(form))
                found = difference(state, self._read(stored), exactly=True)
            except Exception as error:  # noqa: BLE001 - whatever the application's validators and comparisons raise
                reason = text_of(error)
            else:
                if found is None:
                    return stored
                reason = _told(found)
        raise SnapshotError(self._aggregate_class.__name__, reason)

    def _forms(self, state: dict[str, Any]) -> Iterator[str]:
        """Write the state in the forms that it may come back from.

        Fields of models within it are read by their aliases; or by their names, where an alias is for writing only. ``jsonb`` gives
        back what the text of a JSON string says, whatever it is.
        """
        unset = sorted(self.names - state.keys())
        for by_alias in (True, False):
            try:
                written = self._typed().dump_json({**state, _UNSET: unset} if unset else state, by_alias=by_alias, warnings="error")
            except Exception as error:  # whatever the application's types and serializers raise
                raise SnapshotError(self._aggregate_class.__name__, text_of(error)) from error
            text = written.decode()
            if "\\u0000" in text and "\\u0000" in text.replace("\\\\", ""):
                raise SnapshotError(self._aggregate_class.__name__, "a field holds a NUL character, which PostgreSQL cannot store")
            yield text
            yield as_text(text)

    def read(self, text: str) -> dict[str, Any] | None:
        """Read JSON text that :meth:`dump` wrote.

        Returns:
            The fields by name; None for a text of another shape, or one that lacks a field: something else wrote it, or changed it.
        """
        try:
            return self._read(text)
        except Exception:  # noqa: BLE001 - whatever the application's validators raise: the events give the state as well
            return None

    def _read(self, text: str) -> dict[str, Any]:
        state: Any = self._typed().validate_json(json.loads(text) if text.startswith('"') else text)
        unset = state.pop(_UNSET, ())
        if self.names - state.keys() != set(unset):
            raise ValueError("a field is missing")
        return {name: state[name] for name in sorted(state)}

    def set(self, values: dict[str, Any], state: Mapping[str, Any]) -> None:
        """Set the fields in *values* to those that :meth:`read` gave."""
        self.drop(values)
        values.update(state)

    def rests_on(self) -> dict[str, Any]:
        """Give what a stored state means: the types of the fields, as Pydantic sees them, their defaults and default factories.

        Raises:
            DeclarationError: Pydantic cannot store a field.
        """
        return {"types": CoreSchema(self._typed().core_schema), "defaults": self._constants, "factories": self._factories}

    def _shield(self) -> None:
        given = own_annotations(self._aggregate_class)
        annotations = {name: shielded(each, self._aggregate_class) if name in self.names else each for name, each in given.items()}
        if any(annotations[name] is not each for name, each in given.items()):
            self._aggregate_class.__annotations__ = annotations

    def _copied(self, name: str, default: Any) -> Any:
        try:
            return copy.deepcopy(default)
        except Exception as error:
            raise DeclarationError(
                f"{self._aggregate_class.__name__}.{name}: the default {default!r} cannot be copied for each aggregate ({error}). "
                f"Write {name}: ... = Field(default_factory=...)."
            ) from error

    def _typed(self) -> TypeAdapter[dict[str, Any]]:
        if self._adapter is None:
            name = self._aggregate_class.__name__
            try:
                types = {each: self._type_of(each) for each in sorted(self.names)}
                shape = TypedDict(f"{name}State", {**types, _UNSET: list[str]}, total=False)  # type: ignore[misc]
                config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings", extra="forbid")
                shape.__pydantic_config__ = config  # type: ignore[attr-defined]
                # A TypedDict's own settings apply to reading only; those for writing can be given for a union with it.
                self._adapter = typing.cast("TypeAdapter[dict[str, Any]]", TypeAdapter(shape | None, config=config))
            except (NameError, AttributeError, TypeError, PydanticSchemaGenerationError) as error:
                reason = str(error).rstrip(".")
                raise DeclarationError(
                    f"{name} takes snapshots, but Pydantic cannot store its state: {reason}. Annotate each state field with a type "
                    "that Pydantic knows and that can be resolved where the class is defined."
                ) from error
        return self._adapter

    def _type_of(self, name: str) -> Any:
        # One by one: relationships and constants may name what is imported for type checkers only.
        owner = next(klass for klass in self._aggregate_class.__mro__ if name in own_annotations(klass))
        return resolved(own_annotations(owner)[name], owner, name)


def _told(found: Difference) -> str:
    value = shown(found.one)
    if found.is_copy:
        return f"field {found.path!r} would come back as a copy of an object that stands in another place too: {value}"
    return f"field {found.path!r} would come back as {shown(found.other)} instead of {value}; give it a more exact annotation"


def _copier(value: Any) -> Callable[[], Any]:
    return lambda: copy.deepcopy(value)
