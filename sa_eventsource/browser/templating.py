"""Templates: their filters, and what the layout shows on each page."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any
from zlib import crc32

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic_core import to_json
from starlette.responses import HTMLResponse

from sa_eventsource.browser.durations import duration
from sa_eventsource.browser.forged_requests import FIELD, token_of
from sa_eventsource.browser.shown_json import json_line, json_lines
from sa_eventsource.browser.shown_text import escaped, plainly, shortened
from sa_eventsource.counting import counted

if TYPE_CHECKING:
    from starlette.responses import Response

    from sa_eventsource.browser.page import Visit

_VERSION = metadata.version("sa_eventsource")
_HUES = 8


class Templates:
    """The templates of the pages."""

    def __init__(self, title: str) -> None:
        """Load them as they are asked for.

        Args:
            title: What the pages are called.
        """
        self._environment = Environment(
            loader=PackageLoader("sa_eventsource.browser"),
            autoescape=True,
            finalize=plainly,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "moment": moment,
            "time_of_day": time_of_day,
            "json_lines": json_lines,
            "json_line": json_line,
            "text": escaped,
            "short": shortened,
            "hue": hue,
            "grouped": grouped,
            "counted": counted,
            "duration": duration,
            "rate": rate,
            "document": document,
        }
        self._environment.globals |= {"product_title": title, "library_version": _VERSION}

    def page(self, visit: Visit, template: str, status: int, values: dict[str, Any]) -> Response:
        """Make a page; *values* go to the template, alongside what the layout shows."""
        navigation = [
            (page.navigation, visit.url(page.addresses[0].name), visit.addresses.here in [each.name for each in page.addresses])
            for page in visit.pages
            if page.navigation is not None
        ]
        common: dict[str, Any] = {
            "visit": visit,
            "url": visit.url,
            "static": lambda name: visit.addresses.static(name, _VERSION),
            "navigation": navigation,
            "token": (FIELD, token_of(visit.request)) if visit.with_actions else None,
        }
        return HTMLResponse(self._environment.get_template(template).render(common | values), status)


def moment(value: datetime, digits: str = "milliseconds") -> Markup:
    """Show a time, in UTC, with its date; programs read it whole."""
    there = value.astimezone(UTC)
    shown = there.replace(tzinfo=None).isoformat(sep=" ", timespec=digits)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        there.isoformat(), there.replace(tzinfo=None).isoformat(sep=" "), shown
    )


def time_of_day(value: datetime, digits: str = "milliseconds") -> Markup:
    """Show a time without its date, which stands above."""
    there = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        there.isoformat(), there.replace(tzinfo=None).isoformat(sep=" "), there.time().isoformat(timespec=digits)
    )


def document(value: Any) -> str:
    """Write a document that a row holds as JSON."""
    return to_json(value, fallback=repr, inf_nan_mode="strings").decode()


def hue(name: str) -> Markup:
    """Choose one of the colours for a name, always the same: as a class."""
    return escape(f"hue-{crc32(name.encode('utf-8', 'surrogatepass')) % _HUES}")


def grouped(number: int) -> str:
    """Write a number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def rate(number: float) -> str:
    """Write how many come a second: below ten with a digit behind the point."""
    return f"{number:.1f}".removesuffix(".0") if number < _WITHOUT_DIGITS else grouped(round(number))


_WITHOUT_DIGITS = 9.95
