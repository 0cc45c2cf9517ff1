"""The command line: ``sa-eventsource``, or ``python -m sa_eventsource.cli``. Needs the extra ``cli``."""

from sa_eventsource.cli.app import app

__all__ = ["app"]
