"""What differs from one installation to the next."""

import os


def database_url() -> str:
    """Get the database's URL, which the command line of sa_eventsource reads too.

    Raises:
        SystemExit: It is not set.
    """
    url = os.environ.get("SA_EVENTSOURCE_URL")
    if not url:
        raise SystemExit("set SA_EVENTSOURCE_URL, such as postgresql+psycopg://user@host/database")
    return url
