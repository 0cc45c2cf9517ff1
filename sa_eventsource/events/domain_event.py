"""The base class of events."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sa_eventsource.class_options import NAMES, Kind, Members, check_options, several
from sa_eventsource.events.event_types import is_event, note_declared, register
from sa_eventsource.events.personal import check_personal
from sa_eventsource.exceptions import DeclarationError

_MAX_TYPE_LENGTH = 255
_MAX_VERSION = 32767


class DomainEvent(BaseModel):
    """Something that happened, named in the past tense: ``class OrderPlaced(DomainEvent)``.

    A frozen Pydantic model. Unknown fields are refused, both when it is made and when it is read: a field that was dropped or
    renamed needs an upcaster. Every value must survive the way to JSON and back exactly; ``apply_event`` refuses it otherwise.

    Errors name the fields that Pydantic refuses and say why, without their values: these may be personal, and errors end in logs.
    ``model_config = ConfigDict(hide_input_in_errors=False)`` shows the values again.

    A class whose body sets ``__abstract__ = True`` is a common base and no event itself. So is a generic class with its parameters,
    ``Changed[int]``: another process does not know its name. Declare ``class CountChanged(Changed[int])``.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
        hide_input_in_errors=True,
    )

    __event_type__: ClassVar[str]
    """Name the event is stored under; the class's name by default. Not inherited."""

    __event_version__: ClassVar[int] = 1
    """Version of its shape; raise it with each change that stored payloads do not fit, and write an upcaster. Not inherited."""

    __former_types__: ClassVar[tuple[str, ...]] = ()
    """Names it was stored under before, the oldest one first. Not inherited."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known.

        Raises:
            DeclarationError: Its type name or version is impossible, or an option of it is misspelt.
            DuplicateEventTypeError: Another class has its type and version.
        """
        super().__pydantic_init_subclass__(**kwargs)
        check_options(cls, Kind.EVENT)
        own = vars(cls)
        cls.__event_type__ = own.get("__event_type__", cls.__name__)
        cls.__event_version__ = own.get("__event_version__", 1)
        cls.__former_types__ = several(cls, "__former_types__", own.get("__former_types__", ()), NAMES)
        for name in (cls.__event_type__, *cls.__former_types__):
            if not isinstance(name, str) or not 0 < len(name) <= _MAX_TYPE_LENGTH or "\x00" in name:
                raise DeclarationError(
                    f"{cls.__name__}: {name!r} cannot be an event type; use 1 to {_MAX_TYPE_LENGTH} characters, no NUL"
                )
        version = cls.__event_version__
        if type(version) is not int or not 1 <= version <= _MAX_VERSION:
            raise DeclarationError(f"{cls.__name__}.__event_version__ is {version!r}; it must be an int from 1 to {_MAX_VERSION}")
        if cls.__pydantic_complete__:  # else before the first one is written
            check_personal(cls)
        note_declared(cls)
        if is_event(cls):
            register(cls, cls.__former_types__)


EVENT_CLASSES = Members("event classes", "(OrderCancelled,)", lambda each: isinstance(each, type) and issubclass(each, DomainEvent))
"""What options such as ``__ignored_events__`` hold."""
