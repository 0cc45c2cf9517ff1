"""The pages, a module each, in the order of the navigation."""

from sa_eventsource.browser.pages import (
    causation_page,
    code_page,
    commands_page,
    event_page,
    follower_actions,
    lag_page,
    log_page,
    models_page,
    parked_page,
    processes_page,
    rebuild_page,
    row_page,
    stream_page,
    subscriptions_page,
    system_page,
)

PAGES = (
    log_page.PAGE,
    event_page.PAGE,
    stream_page.PAGE,
    code_page.PAGE,
    causation_page.PAGE,
    models_page.PAGE,
    row_page.PAGE,
    rebuild_page.PAGE,
    processes_page.PAGE,
    commands_page.PAGE,
    subscriptions_page.PAGE,
    system_page.PAGE,
    lag_page.PAGE,
    parked_page.PAGE,
    follower_actions.PAGE,
)

__all__ = ["PAGES"]
