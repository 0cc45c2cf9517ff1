"""The event browser: an ASGI application that shows a log, to mount or to serve by itself. Needs the extra ``browser``.

A page is a module of :mod:`sa_eventsource.browser.pages`, with a template of the same name.
"""

from sa_eventsource.extras import needs_extra

with needs_extra("browser", part="sa_eventsource.browser"):
    from sa_eventsource.browser.access import Access, Authorize, everyone
    from sa_eventsource.browser.application import Browser

from sa_eventsource.replays import OtherCode

__all__ = ["Access", "Authorize", "Browser", "OtherCode", "everyone"]
