"""The self-test: the guarantees of the library, put to the test on a database of the user's own."""

from sa_eventsource.selftest.selftest import Report, run_selftest
from sa_eventsource.selftest.verdicts import Ruling, Verdict

__all__ = ["Report", "Ruling", "Verdict", "run_selftest"]
