"""The pictures of the docs can be read in both themes and by those who do not see them, and load nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
ICONS = {"icon.svg", "logo.svg"}
SVG = "{http://www.w3.org/2000/svg}"

_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*\.svg)\)")


@pytest.fixture(params=sorted((ROOT / "docs/pictures").glob("*.svg")), ids=lambda path: path.name)
def picture(request: pytest.FixtureRequest) -> Path:
    """Give each picture in turn."""
    path: Path = request.param
    return path


def test_it_has_a_title_and_a_description(picture: Path) -> None:
    root = ET.parse(picture).getroot()
    told = {kind: root.findtext(f"{SVG}{kind}") for kind in ("title", "desc")}
    assert told["title"]
    assert told["desc"] or picture.name in ICONS
    assert {child.get("id") for child in root if child.tag in {f"{SVG}title", f"{SVG}desc"}} == set(
        root.get("aria-labelledby", "").split()
    )


def test_it_has_colours_for_both_themes(picture: Path) -> None:
    style = ET.parse(picture).getroot().findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    assert (
        set(re.findall(r"(--[\w-]+):", light))
        == set(re.findall(r"(--[\w-]+):", dark))
        == set(re.findall(r"var\((--[\w-]+)\)", style))
    )


def test_it_loads_nothing(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "//" not in text
    assert "@import" not in text
    assert not re.search(r"<(script|image|foreignObject|use)\b|url\((?!#)", text)


def test_a_page_shows_it_and_says_in_words_what_it_shows(picture: Path) -> None:
    shown = [
        alternative
        for page in PAGES
        for alternative, target in _IMAGE.findall(page.read_text(encoding="utf-8"))
        if (page.parent / target).resolve() == picture
    ]
    assert shown or picture.name in ICONS
    assert all(len(alternative) > len("a picture of something") for alternative in shown)
