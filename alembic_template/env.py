"""Runs the migrations. Made by sa_eventsource's template; what to adapt is marked."""

from importlib import import_module
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, MetaData, engine_from_config, pool
from sqlalchemy.schema import CreateSchema

from sa_eventsource.migrations import render_item

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)

# ADAPT: ``metadata = myapp.models:Base.metadata`` in alembic.ini, or import your metadata here. Import every module that
# declares aggregates or tables, or have that module import them.
_module, _, _path = config.get_main_option("metadata", "").partition(":")
target_metadata: MetaData = import_module(_module)  # type: ignore[assignment]
for _name in _path.split("."):
    target_metadata = getattr(target_metadata, _name)

# Schemas that the metadata names are compared too, and created where they are missing.
_schemas = {table.schema for table in target_metadata.tables.values() if table.schema is not None}


def _include_name(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name is None or name in _schemas


_options = {
    "target_metadata": target_metadata,
    "render_item": render_item,
    "include_schemas": bool(_schemas),
    "include_name": _include_name,
    "compare_type": True,
}


def run_migrations_offline() -> None:
    """Write the migrations as SQL, without a connection."""
    context.configure(
        url=config.get_main_option("sqlalchemy.url"), literal_binds=True, dialect_opts={"paramstyle": "named"}, **_options
    )
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online() -> None:
    """Run the migrations on a connection: the caller's, if ``config.attributes["connection"]`` is one or an engine, or one of its own."""
    given = config.attributes.get("connection")
    if isinstance(given, Connection):
        _run_on(given)
        return
    engine = given or engine_from_config(
        config.get_section(config.config_ini_section, {}), prefix="sqlalchemy.", poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        _run_on(connection)


def _run_on(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        for schema in sorted(_schemas):
            connection.execute(CreateSchema(schema, if_not_exists=True))
        connection.commit()
    context.configure(connection=connection, **_options)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
