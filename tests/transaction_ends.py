"""Ways in which a handler can commit that nobody can prevent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


def by_the_driver(session: Session) -> None:
    driver: Any = session.connection().connection.dbapi_connection
    driver.commit()


def by_the_driver_and_go_on(session: Session) -> None:
    by_the_driver(session)
    session.execute(text("SELECT 1"))


def behind_another_statement(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT 1; COMMIT"))
    else:  # which executes one statement at a time, except for this
        driver: Any = session.connection().connection.dbapi_connection
        driver.executescript("SELECT 1")  # commits before
        session.execute(text("SELECT 1"))


NOT_TO_BE_PREVENTED = [by_the_driver, by_the_driver_and_go_on, behind_another_statement]
