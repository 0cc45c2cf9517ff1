"""The command line: ``sa-eventsource``, or ``python -m sa_eventsource.cli``. Needs the extra ``cli``."""

from sa_eventsource.extras import needs_extra

with needs_extra("cli", "the command line"):
    from sa_eventsource.cli.app import app

__all__ = ["app"]
