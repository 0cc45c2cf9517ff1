"""The log of loan applications, which is real.

It is not part of the project. It is looked for at ``SA_EVENTSOURCE_LOAN_DATA``, then in a directory ``shared/data`` beside the
checkout. On a machine that has neither, what needs it is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_NAME = "bpi2012_loan_applications.csv.gz"


def real_log() -> Path:
    """Find the log, or skip."""
    named = os.environ.get("SA_EVENTSOURCE_LOAN_DATA")
    path = Path(named) if named else _ROOT.parent / "shared" / "data" / _NAME
    if not path.is_file():
        pytest.skip(f"no log of loan applications at {path}; set SA_EVENTSOURCE_LOAN_DATA to its place")
    return path
