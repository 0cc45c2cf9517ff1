"""The declarative base, whose metadata has all tables."""

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """The base of all mapped classes: of aggregates, read models and ordinary tables."""
