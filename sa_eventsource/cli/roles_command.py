"""``sa-eventsource roles``: what the roles of a base may do in a database, and the SQL that gives them their rights."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from sqlalchemy.dialects import postgresql

from sa_eventsource.cli.errors import FAILED
from sa_eventsource.cli.help_texts import example
from sa_eventsource.cli.output import Output
from sa_eventsource.cli.target import BaseArgument, UrlOption, import_named, open_target, tables_of
from sa_eventsource.counting import counted
from sa_eventsource.roles import create_roles, rights_statements, role_faults


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("roles", epilog=example("roles app.models:Base --print"))(roles)


def roles(
    base: BaseArgument,
    *,
    url: UrlOption = None,
    print_sql: Annotated[
        bool, typer.Option("--print", help="Print the SQL that creates the roles and grants their rights; needs no database.")
    ] = False,
    grant: Annotated[
        bool, typer.Option("--grant", help="First create the roles that are missing, and grant their rights.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the rights that the application's roles have with those that they are declared to have.

    The exit status is 1 if a role lacks a right, or has one too many.
    """
    output = Output()
    if print_sql:
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        for statement in rights_statements(tables_of(import_named(base, "a declarative base"), base)):
            output.line(f"{statement.compile(dialect=dialect)};")
        return
    with open_target(base, url, for_all_tenants=True) as target:
        if grant:
            with target.engine.begin() as connection:
                create_roles(connection, target.base)
        with target.engine.connect() as connection:
            faults = role_faults(connection, target.base)
    if as_json:
        keys = ("role", "table", "message", "is_lack")
        output.line(json.dumps([{key: getattr(each, key) for key in keys} for each in faults], indent=2))
    else:
        for each in faults:
            output.styled(("LACKS    ", "yellow") if each.is_lack else ("TOO MUCH ", "bold red"), (str(each), ""))
        output.styled((counted(len(faults), "thing is wrong", "things are wrong") if faults else "the roles are as declared", ""))
    if faults:
        raise typer.Exit(FAILED)
