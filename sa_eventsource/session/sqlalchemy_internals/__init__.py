"""Most names of SQLAlchemy used here that are not its public API, each with the reason; decision 2 lists those elsewhere.

They are the same in SQLAlchemy 2.0.40 to 2.1; the test suite runs on both. See docs/explanation/decisions/.
"""

from sa_eventsource.session.sqlalchemy_internals.flushes import (
    PendingFlush,
    call_row_hooks,
    ends_transaction,
    expire_read_only,
    fail_flush,
    has_row_hooks,
    has_work,
    innermost,
    is_all_of_commit,
    is_heard_elsewhere,
    is_orphan,
    new_states,
    register_findable,
    register_persistent,
    unflushed,
    will_commit,
)
from sa_eventsource.session.sqlalchemy_internals.identity_maps import check_answers
from sa_eventsource.session.sqlalchemy_internals.mapped_classes import copied, has_condition, refuse_inspection, refuse_lookups
from sa_eventsource.session.sqlalchemy_internals.orm_statements import (
    IdentityLoad,
    has_statement_hooks,
    identity_load,
    loaded_identity,
    loaded_result,
    locked_classes,
    statement_options,
)
from sa_eventsource.session.sqlalchemy_internals.savepoints import savepoints_begin_written

__all__ = [
    "IdentityLoad",
    "PendingFlush",
    "call_row_hooks",
    "check_answers",
    "copied",
    "ends_transaction",
    "expire_read_only",
    "fail_flush",
    "has_condition",
    "has_row_hooks",
    "has_statement_hooks",
    "has_work",
    "identity_load",
    "innermost",
    "is_all_of_commit",
    "is_heard_elsewhere",
    "is_orphan",
    "loaded_identity",
    "loaded_result",
    "locked_classes",
    "new_states",
    "refuse_inspection",
    "refuse_lookups",
    "register_findable",
    "register_persistent",
    "savepoints_begin_written",
    "statement_options",
    "unflushed",
    "will_commit",
]
