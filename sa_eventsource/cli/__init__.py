"""The command line: ``sa-eventsource``, or ``python -m sa_eventsource.cli``. Needs the extra ``cli``."""

import sys
from pathlib import Path

from sa_eventsource.exceptions import MissingExtraError
from sa_eventsource.extras import needs_extra

try:
    with needs_extra("cli", part="the command line"):
        from sa_eventsource.cli.app import app
except MissingExtraError as error:
    # Who runs it reads one line; who imports it gets the error. While Python looks for what `-m` names, that is what argv says.
    if sys.argv[0] == "-m" or Path(sys.argv[0]).stem == "sa-eventsource":
        sys.exit(f"error: {error}")
    raise

__all__ = ["app"]
