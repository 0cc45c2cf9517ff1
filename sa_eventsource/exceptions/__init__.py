"""Every error that sa_eventsource raises on purpose.

All share :class:`EventSourceError`. Each carries what it knows as fields, builds its own message from them, and says how to
go on. Where a SQLAlchemy caller already catches an error for the same situation, ours is a subclass of that one.
"""

from sa_eventsource.exceptions.aggregates import (
    AggregateIdError,
    AggregateNotFoundError,
    AggregateStateError,
    EmptyAggregateError,
    InactiveTransactionError,
    NestedEventError,
    OneSidedRelationshipError,
    PartialStateError,
    ReadOnlyAggregateError,
    RedeclaredEventError,
    StateFieldAttributeError,
    StateFieldQueryError,
    UnhandledEventError,
    UninitializedAggregateError,
)
from sa_eventsource.exceptions.appending import (
    AutocommitError,
    ConcurrencyError,
    DuplicateAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    ImmutableEventError,
    UnitOfWorkBypassError,
)
from sa_eventsource.exceptions.base import EventSourceError
from sa_eventsource.exceptions.commanding import (
    CommandDiscardedError,
    CommandIdConflictError,
    CommandPayloadError,
    DomainRuleError,
    UnknownCommandError,
)
from sa_eventsource.exceptions.declaring import DeclarationError, DuplicateEventTypeError, UnknownNameError
from sa_eventsource.exceptions.environment import (
    EventContextLostError,
    JoinedTransactionError,
    MissingExtraError,
    RepartitionError,
    SelftestError,
    UnknownShardError,
)
from sa_eventsource.exceptions.privacy import (
    ForgettingError,
    MaskedConnectionError,
    MasterKeyError,
    SealedValueError,
    SubjectForgottenError,
)
from sa_eventsource.exceptions.proving import ProofError, SigningKeyError, UncoveredEventError
from sa_eventsource.exceptions.publishing import (
    AcknowledgementWarning,
    DeliveryDelayedError,
    MessageIdError,
    MessageRefusedError,
)
from sa_eventsource.exceptions.read_models import (
    CommitTokenError,
    HandlerTransactionError,
    MovedLogError,
    ReadModelChangedError,
    ReadModelError,
    ReadModelLagError,
    ReadModelWriteError,
    SubscriptionError,
)
from sa_eventsource.exceptions.reading import (
    CorruptStreamError,
    EventDecodeError,
    EventPayloadError,
    SnapshotError,
    SnapshotWarning,
    UnknownEventTypeError,
)
from sa_eventsource.exceptions.transferring import LogExportError, LogImportError

__all__ = [
    "AcknowledgementWarning",
    "AggregateIdError",
    "AggregateNotFoundError",
    "AggregateStateError",
    "AutocommitError",
    "CommandDiscardedError",
    "CommandIdConflictError",
    "CommandPayloadError",
    "CommitTokenError",
    "ConcurrencyError",
    "CorruptStreamError",
    "DeclarationError",
    "DeliveryDelayedError",
    "DomainRuleError",
    "DuplicateAggregateError",
    "DuplicateEventTypeError",
    "EmptyAggregateError",
    "EventAlreadyAppendedError",
    "EventContextLostError",
    "EventDecodeError",
    "EventIdConflictError",
    "EventPayloadError",
    "EventSourceError",
    "ForgettingError",
    "HandlerTransactionError",
    "ImmutableEventError",
    "InactiveTransactionError",
    "JoinedTransactionError",
    "LogExportError",
    "LogImportError",
    "MaskedConnectionError",
    "MasterKeyError",
    "MessageIdError",
    "MessageRefusedError",
    "MissingExtraError",
    "MovedLogError",
    "NestedEventError",
    "OneSidedRelationshipError",
    "PartialStateError",
    "ProofError",
    "ReadModelChangedError",
    "ReadModelError",
    "ReadModelLagError",
    "ReadModelWriteError",
    "ReadOnlyAggregateError",
    "RedeclaredEventError",
    "RepartitionError",
    "SealedValueError",
    "SelftestError",
    "SigningKeyError",
    "SnapshotError",
    "SnapshotWarning",
    "StateFieldAttributeError",
    "StateFieldQueryError",
    "SubjectForgottenError",
    "SubscriptionError",
    "UncoveredEventError",
    "UnhandledEventError",
    "UninitializedAggregateError",
    "UnitOfWorkBypassError",
    "UnknownCommandError",
    "UnknownEventTypeError",
    "UnknownNameError",
    "UnknownShardError",
]
