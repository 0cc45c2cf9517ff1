"""What a base has for personal data, and whom an argument names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import subject_text
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import MAX_NAME_LENGTH, tables_of_base, tables_with_keys

if TYPE_CHECKING:
    from sqlalchemy import Table

    from sa_eventsource.mapping import EventSourceTables, MasterKeys


@dataclass(frozen=True, slots=True)
class PersonalDataOfBase:
    """What a base with master keys has.

    Attributes:
        tables: All its tables.
        subject_keys: The keys of subjects.
        forgotten_subjects: Who was forgotten.
        master_keys: What wraps the keys.
    """

    tables: EventSourceTables
    subject_keys: Table
    forgotten_subjects: Table
    master_keys: MasterKeys


def personal_data_on(tables: EventSourceTables) -> PersonalDataOfBase:
    """Get what a base has for personal data.

    Raises:
        DeclarationError: It has no master keys.
    """
    keys, forgotten, master_keys = tables.subject_keys, tables.forgotten_subjects, tables.options.master_keys
    if keys is None or forgotten is None or master_keys is None:
        raise DeclarationError(
            f"the base of the log {tables.events.name!r} has no master keys, which wrap the keys of personal data. On the "
            "declarative base, write __eventsource__ = EventSourceOptions(master_keys=...)"
        )
    return PersonalDataOfBase(tables, keys, forgotten, master_keys)


def personal_data_of_base(function: str, base: Any) -> PersonalDataOfBase:
    """Get what a base has for personal data; that of the only one that has something where none is given.

    Raises:
        DeclarationError: It has no master keys, or it is not clear which base is meant.
        TypeError: It is not a declarative base.
    """
    if base is not None:
        return personal_data_on(tables_of_base(f"{function}(base=...)", base))
    found = tables_with_keys()
    if len(found) != 1:
        raise DeclarationError(f"{len(found) or 'no'} declarative bases have master keys; name one: {function}(..., base=Base)")
    return personal_data_on(found[0])


def checked_subject(function: str, subject: object) -> str:
    """Write a subject as the text that it is known by.

    Raises:
        ValueError: It is none.
    """
    found = subject_text(subject)
    if found is None:
        limits = f"a text of 1 to {MAX_NAME_LENGTH} characters, a whole number or a UUID"
        raise ValueError(f"{function}({subject!r}): a subject is {limits}")
    return found
