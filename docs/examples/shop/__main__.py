"""Run the shop: ``python -m shop [postgresql+psycopg://user@host/database]``, then look at ``http://127.0.0.1:8000/docs``.

Without a URL it runs on an embedded PostgreSQL that goes away with it; with one, in a schema of its own, which is dropped at the
end. ``SHOP_BROKER`` names a RabbitMQ.
"""

from __future__ import annotations

import argparse
import signal
import sys

import uvicorn
from example_server import example_engine

from shop.loyalty import LoyaltyBase
from shop.ordering import Base
from shop.web import create_app


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m shop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="a PostgreSQL database to use instead of an embedded server")
    parser.add_argument("--port", type=int, default=8000, help="where to listen; 0 for a free port")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn sends it on when it has ended, and the tables go then
    with example_engine(options.url, "shop_example") as engine:
        Base.metadata.create_all(engine)
        LoyaltyBase.metadata.create_all(engine)
        uvicorn.run(create_app(engine), port=options.port)


if __name__ == "__main__":
    main()
