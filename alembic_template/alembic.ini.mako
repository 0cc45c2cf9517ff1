[alembic]
script_location = ${script_location}
prepend_sys_path = .
path_separator = os

# ADAPT: the metadata of your declarative base, as module:attribute.
metadata = myapp.models:Base.metadata

# ADAPT: the database.
sqlalchemy.url = postgresql+psycopg://user@localhost/database

[loggers]
keys = root,sqlalchemy,alembic

[handlers]
keys = console

[formatters]
keys = generic

[logger_root]
level = WARNING
handlers = console
qualname =

[logger_sqlalchemy]
level = WARNING
handlers =
qualname = sqlalchemy.engine

[logger_alembic]
level = INFO
handlers =
qualname = alembic

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic

[formatter_generic]
format = %(levelname)-5.5s [%(name)s] %(message)s
