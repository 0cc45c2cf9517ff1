"""The metadata of a declarative base, at the time when its class is being made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta


def metadata_in_the_making(base: type[Any]) -> MetaData | None:
    """Find a base's metadata from within ``__set_name__``, before SQLAlchemy has seen the class.

    A base that brings none is given its own, as SQLAlchemy would do next; of what is no base, there is none.
    """
    own = vars(base)
    is_first = DeclarativeBase in base.__bases__ or DeclarativeBaseNoMeta in base.__bases__
    if is_first and "metadata" not in own and "registry" not in own:
        base.metadata = MetaData()
    found = getattr(own.get("registry", base), "metadata", None)
    return found if isinstance(found, MetaData) else None
