"""What a command works on: the log of a declarative base, in a database."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy import URL, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import registry

from sa_eventsource.cli.errors import UsageError, describe, did_you_mean
from sa_eventsource.mapping import TENANT_SETTING, EventSourceTables, find_tables, tables_of_base
from sa_eventsource.store import current_tenant, reader_without_right, say_tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

BaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:BASE", show_default=False, help="Module and name of the declarative base, such as app.models:Base."
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="SA_EVENTSOURCE_URL",
        show_default=False,
        show_envvar=True,
        help="SQLAlchemy URL of the database, such as postgresql://user@host/name.",
    ),
]

IMPORT_THEM = "name a module that imports all that declare them, such as app.models:Base"
"""What to do where a base has nothing that a command could work on: the module of the base alone is a common mistake."""

_EXAMPLES = {
    "a declarative base": "app.models:Base",
    "a publisher": "app.bus:publisher",
    "a function": "app.privacy:blank",
}
_THRESHOLD = "prepare_threshold"
_OUR_DRIVER = "postgresql+psycopg"
_POSTGRESQL = ("postgresql", "postgres")
_PSYCOPG = ("psycopg", "psycopg_pipelined")
_DIALECTS = ("postgresql", "sqlite")


@dataclass(frozen=True, slots=True)
class Target:
    """What a command works on.

    Attributes:
        base: The declarative base, or what was named instead.
        tables: The library's tables on its metadata.
        engine: An engine for the database.
    """

    base: Any
    tables: EventSourceTables
    engine: Engine


@contextmanager
def open_target(base: str, url: str | None, *, for_all_tenants: bool = False, masks: bool = False) -> Iterator[Target]:
    """Import the base and make the engine, whose connections are closed in the end.

    Args:
        base: ``MODULE:NAME``.
        url: URL of the database.
        for_all_tenants: Whether the command needs no tenant where tenants share the tables.
        masks: Whether the command does with placeholders, where the role that is connected may not read the keys of personal data.

    Raises:
        UsageError: The base cannot be imported or is none, or the URL is missing or names no database that the library knows.
    """
    found = import_named(base, "a declarative base")
    with on_database(found, tables_of(found, base), url, for_all_tenants=for_all_tenants) as target:
        yield _masked_unless_allowed(target) if masks else target


def _masked_unless_allowed(target: Target) -> Target:
    """Give placeholders to a role that may not read the keys of personal data, instead of an error, and say so."""
    keys = target.tables.subject_keys
    if keys is None:
        return target
    with target.engine.connect() as connection:
        role = reader_without_right(connection, keys)
    if role is None:
        return target
    typer.echo(f"note: {role} may not read {keys.name}, so that personal data is shown as its placeholders", err=True)
    return replace(target, engine=target.engine.execution_options(personal_data="masked"))


@contextmanager
def on_database(base: Any, tables: EventSourceTables, url: str | None, *, for_all_tenants: bool = False) -> Iterator[Target]:
    """Make the engine for a base, whose connections are closed in the end; they are those of the tenant that ``--tenant`` names.

    Raises:
        UsageError: The URL is missing or names no database that the library knows; or a tenant is to be named and is not, or is
            named where there are none.
    """
    tenant = current_tenant()
    if tenant is not None and not tables.options.tenants:
        raise UsageError(f"--tenant {tenant}: tenants do not share the log {tables.events.name!r}")
    if tenant is None and tables.options.tenants and not for_all_tenants:
        raise UsageError(f"tenants share the log {tables.events.name!r}; name one: sa-eventsource --tenant NAME ...")
    engine = make_engine(url)
    of_tenant = engine if tenant is None else _of_tenant(engine, tenant)
    try:
        yield Target(base, tables, of_tenant)
    finally:
        engine.dispose()


def for_tenant(target: Target, tenant: str) -> Target:
    """Give what a command works on for one of the tenants of a log."""
    return replace(target, engine=_of_tenant(target.engine, tenant))


def _of_tenant(engine: Engine, tenant: str) -> Engine:
    """Have all transactions be a tenant's, those that no session begins too."""
    found = engine.execution_options(**{TENANT_SETTING: tenant})
    event.listen(found, "begin", say_tenant)
    return found


def import_named(reference: str, wanted: str) -> Any:
    """Import what ``MODULE:NAME`` names, looking in the current directory first.

    Args:
        reference: The module and the name.
        wanted: What it is to name, for the message.

    Raises:
        UsageError: There is no such thing, or its import fails.
    """
    module_name, separator, path = reference.partition(":")
    if not separator or not module_name or not path:
        raise UsageError(f"{reference!r} does not name {wanted}; write MODULE:NAME, such as {_EXAMPLES[wanted]}")
    if module_name.endswith(".py"):
        module = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise UsageError(f"{module_name!r} is a file; name the module: {module}:{path}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        top = module_name.partition(".")[0]
        is_elsewhere = isinstance(error, ModuleNotFoundError) and error.name == top
        advice = f"; run it in the folder that has {top!r}, or install it" if is_elsewhere else ""
        raise UsageError(f"cannot import {module_name!r}: {type(error).__name__}: {describe(error)}{advice}") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(f"module {module_name!r} has no {path!r}{did_you_mean(name, dir(found))}") from None
    return found


def tables_of(base: Any, reference: str) -> EventSourceTables:
    """Get the library's tables of a declarative base, or of what else has a metadata with them.

    Raises:
        UsageError: It has no metadata, or one without the library's tables that belongs to no declarative base.
    """
    metadata = getattr(base, "metadata", None)
    if not isinstance(metadata, MetaData):
        raise UsageError(f"{reference} is not a declarative base: it has no metadata")
    tables = find_tables(metadata)
    if tables is not None:
        return tables
    if not isinstance(getattr(base, "registry", None), registry):
        raise UsageError(f"{reference} has no event-sourcing tables, and is not a declarative base on which they could be put")
    # The module of the base alone declares no aggregates; where the log lies is known nevertheless.
    return tables_of_base(reference, base)


def parse_database(url: str | None) -> tuple[URL, dict[str, Any]]:
    """Read a URL: what is one for SQLAlchemy, and what goes into ``connect_args``; ``postgresql://`` alone means psycopg 3.

    ``?prepare_threshold=none`` has psycopg prepare no statements, and a number so many executions before it does; an engine of the
    application gets that in ``connect_args``, for which a URL has no place.

    Raises:
        UsageError: The URL is missing, is none, or has a threshold that is none.
    """
    if not url:
        raise UsageError("no database is named; pass --url or set SA_EVENTSOURCE_URL")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError("the URL cannot be read; write it like postgresql://user@host/name or sqlite:///file.db") from None
    return _without_threshold(_with_driver(parsed))


def make_engine(url: str | None) -> Engine:
    """Make an engine for a URL, which is read as :func:`parse_database` does.

    Raises:
        UsageError: The URL is missing, is none, or names a database or a driver that is not to be used.
    """
    parsed, connect_args = parse_database(url)
    dialect = parsed.get_backend_name()
    if dialect not in _DIALECTS:
        raise UsageError(f"events are stored in PostgreSQL or SQLite, not in {dialect}")
    if dialect == "sqlite":
        _check_file(parsed)
    try:
        engine = create_engine(parsed, connect_args=connect_args)
    except (NoSuchModuleError, ImportError) as error:
        advice = "install it: pip install 'sa_eventsource[postgresql]'"
        if parsed.drivername != _OUR_DRIVER:
            advice = f"this library's driver is psycopg: write {_OUR_DRIVER}://"
        raise UsageError(f"the driver of {parsed.drivername} is not there ({describe(error)}); {advice}") from error
    except ArgumentError as error:
        raise UsageError(f"the URL cannot be used: {describe(error)}") from error
    if engine.dialect.is_async:
        instead = "sqlite" if dialect == "sqlite" else _OUR_DRIVER
        raise UsageError(f"{parsed.drivername} is asynchronous, and the command line is not; write {instead}://")
    if dialect == "sqlite":
        _begin_transactions(engine)
    return engine


def _with_driver(url: URL) -> URL:
    if url.drivername in _POSTGRESQL:
        url = url.set(drivername=_OUR_DRIVER)
    if url.get_backend_name() == "postgresql" and "application_name" not in url.query and url.get_driver_name() in _PSYCOPG:
        url = url.update_query_dict({"application_name": "sa-eventsource"})
    return url


def _without_threshold(url: URL) -> tuple[URL, dict[str, Any]]:
    """Take the threshold for prepared statements out of a URL's query, as an argument for psycopg."""
    given = url.query.get(_THRESHOLD)
    if given is None or url.get_driver_name() not in _PSYCOPG:
        return url, {}
    if given == "none":
        threshold = None
    elif isinstance(given, str) and given.isdecimal():
        threshold = int(given)
    else:
        raise UsageError(f"{_THRESHOLD}={given} in the URL is neither none nor a number of executions")
    return url.difference_update_query([_THRESHOLD]), {_THRESHOLD: threshold}


def _check_file(url: URL) -> None:
    """Refuse a file that is not there, which SQLite would make."""
    name = url.database
    if name and name != ":memory:" and not name.startswith("file:") and not Path(name).exists():
        raise UsageError(f"there is no file {name!r}")


def _begin_transactions(engine: Engine) -> None:
    """Have SQLite begin a transaction when SQLAlchemy does, so that it sees one state of the database until its end."""

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")
