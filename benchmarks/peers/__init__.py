"""Measures sa_eventsource beside other event sourcing libraries for Python: the same orders, read model and PostgreSQL for each.

Peers are installed in an environment of their own (``make bench-peers``). A contender is one small module that uses a library as
its documentation says, behind one protocol.
"""
