"""A dialect of SQLAlchemy's for psycopg that waits less often: ``postgresql+psycopg_pipelined://``.

BEGIN travels with the first statement of a transaction, and statements of this library whose answers nobody reads travel with the
next one that is waited for. What an application sends itself is sent when it says so.

Nothing here is imported before an engine is created with that URL; psycopg neither.
"""

from sa_eventsource.pipelined.holding import MAY_BE_HELD, HeldStatement, failed_statement, held_by

__all__ = ["MAY_BE_HELD", "HeldStatement", "failed_statement", "held_by"]
