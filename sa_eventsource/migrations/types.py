"""What migrations import: the library's column types and defaults. This path stays, wherever the library keeps them."""

from sa_eventsource.mapping import DOCUMENT, TransactionId, UtcDateTime, current_transaction_id, database_clock

__all__ = ["DOCUMENT", "TransactionId", "UtcDateTime", "current_transaction_id", "database_clock"]
