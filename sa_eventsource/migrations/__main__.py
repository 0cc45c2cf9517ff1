"""``python -m sa_eventsource.migrations`` prints the template's folder, for ``alembic init -t``."""

from sa_eventsource.migrations.template import template_path

if __name__ == "__main__":
    print(template_path())  # noqa: T201 - what it is for
