"""The tests; where SA_EVENTSOURCE_TEST_PARTITIONS is set, all of them on a log with so many hash partitions."""

import os
from dataclasses import fields

from sa_eventsource import EventSourceOptions

PARTITIONS = int(os.environ.get("SA_EVENTSOURCE_TEST_PARTITIONS", "0")) or None
"""How many partitions the log of a base has that does not say so itself."""

if PARTITIONS is not None:
    # Bases are declared while modules are imported, in processes that tests start too: a fixture would come too late for them.
    defaults = {each.name: each.default for each in fields(EventSourceOptions)} | {"partitions": PARTITIONS}
    EventSourceOptions.__init__.__defaults__ = tuple(defaults.values())
