"""Publishing: events of the log as messages of a broker, once they are committed."""

from sa_eventsource.publishing.publisher import Publisher

__all__ = ["Publisher"]
