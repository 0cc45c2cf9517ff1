"""What takes events from the log under a name of its own: read models and subscriptions, and the shards of them."""

from sa_eventsource.consumers.consumer import Consumer, OnError, check_following
from sa_eventsource.consumers.declared_consumers import chosen_consumers, consumers_on
from sa_eventsource.consumers.event_owners import knows, owners_of
from sa_eventsource.consumers.handling import (
    HOW_TO_HANDLE,
    HandlerMethod,
    by_stored_name,
    handling,
    is_any_handling,
    is_handling,
    keeping_transaction,
    refuse_commit,
    within_transaction,
)
from sa_eventsource.consumers.named_subscriptions import NamedSubscription, check_subscription, declare, subscriptions_on
from sa_eventsource.consumers.reader import READER, Reader
from sa_eventsource.consumers.relay import Delivery, Relay
from sa_eventsource.consumers.shards import Follower, followers_of
from sa_eventsource.consumers.start import Place, Start, check_place
from sa_eventsource.consumers.stream_filter import ALL_STREAMS, Streams, is_parked
from sa_eventsource.consumers.subscription import Subscription, subscribe

__all__ = [
    "ALL_STREAMS",
    "HOW_TO_HANDLE",
    "READER",
    "Consumer",
    "Delivery",
    "Follower",
    "HandlerMethod",
    "NamedSubscription",
    "OnError",
    "Place",
    "Reader",
    "Relay",
    "Start",
    "Streams",
    "Subscription",
    "by_stored_name",
    "check_following",
    "check_place",
    "check_subscription",
    "chosen_consumers",
    "consumers_on",
    "declare",
    "followers_of",
    "handling",
    "is_any_handling",
    "is_handling",
    "is_parked",
    "keeping_transaction",
    "knows",
    "owners_of",
    "refuse_commit",
    "subscribe",
    "subscriptions_on",
    "within_transaction",
]
