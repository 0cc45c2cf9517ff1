"""Payloads are opened a thousand at a time, and come out as they do one by one; one that cannot be is named."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_eventsource.events import sealed_text
from sa_eventsource.exceptions import SealedValueError
from sa_eventsource.privacy.ciphers import Cipher
from sa_eventsource.privacy.opening import CutPayloads, as_bytes
from sa_eventsource.privacy.unwrapped_keys import UnwrappedKey
from sa_eventsource.store import StoredPayloads, place_of

ANN, BOB, GONE = (letter * 32 for letter in "abc")
KEYS = {each: UnwrappedKey(each.encode(), Cipher(each.encode())) for each in (ANN, BOB)}
ALL: dict[str, UnwrappedKey | None] = {**KEYS, GONE: None}

values = st.one_of(
    st.tuples(st.sampled_from([ANN, BOB, GONE]), st.sampled_from(["note", "(gone) é", 'a "quote"', None, 3])),
    st.sampled_from(["[", "{", '"', "\\", "\n", "plain", '{"$sealed": "x"}']),
    st.integers(),
)
members = st.dictionaries(st.sampled_from(["email", "name", 'a "key"', "b\\", "é", ": "]), values, max_size=3)
payloads = st.one_of(members, st.dictionaries(st.sampled_from(["inner", "x"]), st.one_of(members, st.lists(members, max_size=2))))


class Batch:
    """Payloads with sealed values, and what they come to."""

    def __init__(self, documents: list[object], spacing: tuple[str, str]) -> None:
        self.event_ids = [uuid4().hex for _ in documents]
        self.places = [place_of(each, "Customer", "c-1") for each in self.event_ids]
        self.spacing = spacing
        written = [self._write(place, document, "") for place, document in zip(self.places, documents, strict=True)]
        self.texts, self.clear = ([each[side] for each in written] for side in (0, 1))

    def _write(self, place: str, value: object, path: str) -> tuple[str, str]:
        between, colon = self.spacing
        if isinstance(value, tuple):
            key_id, placeholder = value
            clear = json.dumps(f"secret of {path}")
            box = Cipher(key_id.encode()).seal(clear, as_bytes(place + path))
            stands_for = json.dumps(placeholder, ensure_ascii=False)
            sealed = sealed_text(key_id, box, stands_for)
            if between != ",":
                sealed = sealed.replace('":', '": ', 1).replace(',"placeholder":', ', "placeholder": ', 1)
            return sealed, clear if key_id in KEYS else stands_for
        if isinstance(value, dict):
            items = [(json.dumps(key), self._write(place, each, self._below(path, key))) for key, each in value.items()]
            return tuple("{" + between.join(f"{key}{colon}{each[side]}" for key, each in items) + "}" for side in (0, 1))  # type: ignore[return-value]
        if isinstance(value, list):
            written = [self._write(place, each, self._below(path, str(number))) for number, each in enumerate(value)]
            return tuple("[" + between.join(each[side] for each in written) + "]" for side in (0, 1))  # type: ignore[return-value]
        return json.dumps(value), json.dumps(value)

    def _below(self, path: str, key: str) -> str:
        return f"{path}\0{key}" if path else key

    def cut(self) -> CutPayloads:
        return CutPayloads(StoredPayloads(self.texts, self.places, lambda number: (f"Type{number}", 1)))


@given(documents=st.lists(payloads, max_size=6), spacing=st.sampled_from([(",", ":"), (", ", ": ")]))
def test_all_come_out_as_they_went_in(documents: list[object], spacing: tuple[str, str]) -> None:
    batch = Batch(documents, spacing)
    cut = batch.cut()
    assert cut.key_ids() == {each for each in ALL if any(f'"{each}.' in text for text in batch.texts)}
    opened = cut.opened(ALL)
    assert list(opened.texts) == batch.clear
    for text, used in zip(batch.texts, opened.keys, strict=True):
        theirs = {each for each in ALL if f'"{each}.' in text}
        assert used == (theirs & KEYS.keys() if theirs else None)
    assert "secret of" not in "".join(batch.cut().opened(dict.fromkeys(ALL)).texts)


FLAT = {"email": (ANN, "gone"), "country": "NL"}


def batch_of(number: int) -> Batch:
    return Batch([FLAT] * number, (", ", ": "))


@pytest.mark.parametrize("beside", [None, [1]], ids=["in one go", "beside one of another form"])
@pytest.mark.parametrize("what", ["another event's", "changed", "no base64", "another key", "unknown key", "under another name"])
def test_the_one_that_cannot_be_opened_is_named(what: str, beside: object) -> None:
    batch = batch_of(3)
    if beside is not None:
        batch = Batch([FLAT, FLAT, FLAT, beside], (", ", ": "))
    texts = batch.texts
    match what:
        case "another event's":
            texts[1] = texts[2]
        case "changed":
            texts[1] = texts[1].replace(f"{ANN}.", f"{ANN}.AAAA")
        case "no base64":
            texts[1] = texts[1].replace(f"{ANN}.", f"{ANN}.*")
        case "another key":
            texts[1] = texts[1].replace(ANN, BOB)
        case "unknown key":
            texts[1] = texts[1].replace(ANN, "d" * 32)
        case _:
            texts[1] = texts[1].replace("email", "e-mail")
    with pytest.raises(SealedValueError) as caught:
        batch.cut().opened(ALL)
    assert (caught.value.event_type, caught.value.event_id) == ("Type1", UUID(batch.event_ids[1]))
