"""Events: their base class, names and versions, the way to JSON and back, their context. Knows no database."""

from sa_eventsource.events.codec import as_read, decode, decoder, encode, own_copy
from sa_eventsource.events.comparison import Difference, difference, shown
from sa_eventsource.events.context import EventContext, current_context, event_context, within_context
from sa_eventsource.events.domain_event import EVENT_CLASSES, DomainEvent
from sa_eventsource.events.event_types import (
    class_of,
    current_class,
    current_type,
    family,
    first_name,
    is_event,
    is_replaced,
    members,
    on_join,
    place,
    revision,
    stored_types,
    stored_types_of_family,
)
from sa_eventsource.events.exactness import is_known_setting
from sa_eventsource.events.json_spans import item_spans, member_spans
from sa_eventsource.events.jsonb import as_text, parsed
from sa_eventsource.events.metadata import decode_metadata, encode_metadata
from sa_eventsource.events.personal import holds_personal, is_personal, personal_fields, sealed_names, subject_text
from sa_eventsource.events.personal_marks import Personal
from sa_eventsource.events.personal_values import PersonalValue, personal_values
from sa_eventsource.events.recorded import PendingEvent, RecordedEvent
from sa_eventsource.events.sealed_form import (
    SEALED_BEGINNING,
    cut_at_sealed,
    cut_flat,
    is_flat,
    key_ids_in,
    member_before,
    replaced,
    sealed_text,
)
from sa_eventsource.events.splitting import (
    Parts,
    SplitSource,
    is_readable,
    is_retired,
    part_id,
    split_sources,
    split_sources_of,
    split_sources_of_families,
)
from sa_eventsource.events.storable import refuse_unstorable
from sa_eventsource.events.stored_form import is_stored_plainly
from sa_eventsource.events.stream_archived import ARCHIVED_TYPE, StreamArchived
from sa_eventsource.events.stream_closed import CLOSED_TYPE, StreamClosed
from sa_eventsource.events.upcasting import missing_step, reading_steps, upcast

__all__ = [
    "ARCHIVED_TYPE",
    "CLOSED_TYPE",
    "EVENT_CLASSES",
    "SEALED_BEGINNING",
    "Difference",
    "DomainEvent",
    "EventContext",
    "Parts",
    "PendingEvent",
    "Personal",
    "PersonalValue",
    "RecordedEvent",
    "SplitSource",
    "StreamArchived",
    "StreamClosed",
    "as_read",
    "as_text",
    "class_of",
    "current_class",
    "current_context",
    "current_type",
    "cut_at_sealed",
    "cut_flat",
    "decode",
    "decode_metadata",
    "decoder",
    "difference",
    "encode",
    "encode_metadata",
    "event_context",
    "family",
    "first_name",
    "holds_personal",
    "is_event",
    "is_flat",
    "is_known_setting",
    "is_personal",
    "is_readable",
    "is_replaced",
    "is_retired",
    "is_stored_plainly",
    "item_spans",
    "key_ids_in",
    "member_before",
    "member_spans",
    "members",
    "missing_step",
    "on_join",
    "own_copy",
    "parsed",
    "part_id",
    "personal_fields",
    "personal_values",
    "place",
    "reading_steps",
    "refuse_unstorable",
    "replaced",
    "revision",
    "sealed_names",
    "sealed_text",
    "shown",
    "split_sources",
    "split_sources_of",
    "split_sources_of_families",
    "stored_types",
    "stored_types_of_family",
    "subject_text",
    "upcast",
    "within_context",
]
