"""A shop and a bank whose streams have ended, or go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.ending.accounts import Account, pay_in
from tests.ending.tills import follow_all, heard, sell


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """Tills: t-1 and t-3 are closed, and t-2 goes on."""
    sell(engine, "t-1", "pen", "ink", "pen")
    sell(engine, "t-2", "pen", close=False)
    sell(engine, "t-3", "map", "pen")
    follow_all(engine)
    heard.clear()
    return engine


@pytest.fixture
def accounts(engine: Engine) -> Engine:
    """Accounts: a-1 is closed, and a-2 goes on."""
    pay_in(engine, Account, "a-1", 3, 4)
    pay_in(engine, Account, "a-2", 5, close=False)
    return engine


@pytest.fixture(params=["table", "file"])
def where(request: Any, tmp_path: Path) -> dict[str, Any]:
    """Where the events go: the options of ``compact``."""
    return {} if request.param == "table" else {"directory": tmp_path}
