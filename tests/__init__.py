"""The tests; where SA_EVENTSOURCE_TEST_PARTITIONS is set, all of them on a log with so many hash partitions."""

import os

from sa_eventsource import EventSourceOptions

PARTITIONS = int(os.environ.get("SA_EVENTSOURCE_TEST_PARTITIONS", "0")) or None
"""How many partitions the log of a base has that does not say so itself."""

if PARTITIONS is not None:
    # Bases are declared while modules are imported, in processes that tests start too: a fixture would come too late for them.
    defaults = EventSourceOptions.__init__.__defaults__ or ()
    EventSourceOptions.__init__.__defaults__ = (*defaults[:-1], PARTITIONS)
