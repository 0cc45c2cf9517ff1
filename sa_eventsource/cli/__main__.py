"""``python -m sa_eventsource.cli`` is ``sa-eventsource``."""

from sa_eventsource.cli.app import app

if __name__ == "__main__":
    app(prog_name="sa-eventsource")
