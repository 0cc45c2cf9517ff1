"""Publishing: events of the log as messages of a broker, once they are committed; an inbox for those who receive them."""

from sa_eventsource.publishing.inbox import Inbox, context_of, inbox_tables
from sa_eventsource.publishing.publisher import Publisher

__all__ = ["Inbox", "Publisher", "context_of", "inbox_tables"]
