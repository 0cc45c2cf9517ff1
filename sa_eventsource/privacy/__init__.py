"""Personal data: sealed in the log with keys of those whose data it is, and gone with the key. Sealing needs ``cryptography``."""

from sa_eventsource.privacy.anonymisation_run import Anonymised
from sa_eventsource.privacy.anonymising import anonymise, async_anonymise
from sa_eventsource.privacy.field_rewriting import FieldChange, StoredField, has_field
from sa_eventsource.privacy.forgetting import Forgotten, async_forget, forget
from sa_eventsource.privacy.held_data import async_personal_data, personal_data
from sa_eventsource.privacy.master_keys import EnvironmentKeys, FileKeys, ServiceKeys
from sa_eventsource.privacy.of_base import personal_data_on
from sa_eventsource.privacy.of_session import context_of, expire_aggregates
from sa_eventsource.privacy.rotation import rotate_master_key, rotate_subject_key
from sa_eventsource.privacy.search_hash import SearchHash, hashing_by

__all__ = [
    "Anonymised",
    "EnvironmentKeys",
    "FieldChange",
    "FileKeys",
    "Forgotten",
    "SearchHash",
    "ServiceKeys",
    "StoredField",
    "anonymise",
    "async_anonymise",
    "async_forget",
    "async_personal_data",
    "context_of",
    "expire_aggregates",
    "forget",
    "has_field",
    "hashing_by",
    "personal_data",
    "personal_data_on",
    "rotate_master_key",
    "rotate_subject_key",
]
