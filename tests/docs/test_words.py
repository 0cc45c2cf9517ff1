"""Words that send a reader back to the beginning of the sentence, in the docs and in docstrings and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "sa_eventsource").rglob("*.py")),
    *sorted((ROOT / "alembic_template").rglob("*.py")),
]

INSTEAD = {
    r"anew": "again, start over",
    r"(?:transaction|somebody|nobody|another one|somebody else) was faster": "wrote first",
    r"brought further": "advanced",
    r"puts? aside": "parked, kept",
    r"tells? the row": "says which row",
    r"(?:rows|tables|events) lie in": "are in",
    r"worked off": "processed",
    r"settled by itself": "resolved automatically",
    r"four tables": "a number that is true, or none",
    r"is held of": "is stored about",
    r"no more the": "no longer the",
    r"what becomes of": "what happens to",
    r"without a word": "silently",
    r"(?:stands?|lies?) behind": "follows, comes after",
    r"behind (?:the|a|an|each|every) (?:commit|COMMIT|version)": "after",
    r"events? behind (?:it|them|that|the)": "after",
}


@pytest.mark.parametrize("phrase", INSTEAD)
def test_a_phrase_is_not_used(phrase: str) -> None:
    pattern = re.compile(rf"\b{phrase}\b")
    found = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: write {INSTEAD[phrase]!r}"
        for path in TEXTS
        for text in [path.read_text(encoding="utf-8")]
        for match in pattern.finditer(text)
    ]
    assert found == []
