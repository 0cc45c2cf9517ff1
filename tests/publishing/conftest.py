"""The shop's log, for every broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData

from tests.publishing.scripted_sender import ScriptedSender
from tests.publishing.shop import Base, publisher


@pytest.fixture
def tables() -> MetaData | None:
    """The shop's."""
    return Base.metadata


@pytest.fixture
def shop(postgres_engine: Engine) -> Engine:
    """Engine on a database with the shop's tables."""
    return postgres_engine


@pytest.fixture
def broker() -> Iterator[ScriptedSender]:
    """What the shop's publisher sends to, instead of a broker."""
    before, scripted = publisher.sender, ScriptedSender()
    publisher.sender = scripted
    yield scripted
    publisher.sender = before
