"""A shop: commands over HTTP, an event log, read models that follow it, and a consumer on a message bus.

Read it in this order: ``ordering`` has the aggregate with its commands, ``views`` the read models, ``loyalty`` the consumer,
``bus`` what joins the two, ``web`` the HTTP interface. ``python -m shop`` runs all of it.
"""
