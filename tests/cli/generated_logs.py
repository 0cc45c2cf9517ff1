"""Logs that Hypothesis draws: any names, any documents, any times."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from sa_eventsource.mapping import as_json

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
_numbers = st.one_of(
    st.integers(min_value=-(10**60), max_value=10**60).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
    .map(lambda number: f"{number:f}")
    .filter(lambda digits: len(digits) < 5000 and not (digits.startswith("-") and not digits.strip("-0."))),
)
_documents = st.recursive(
    st.one_of(_numbers, _texts.map(as_json), _texts.map(json.dumps), st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(_texts, inner, max_size=3).map(
            lambda items: "{" + ",".join(f"{as_json(key)}:{value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=8,
)
_objects = st.dictionaries(_texts, _documents, max_size=4).map(
    lambda items: "{" + ",".join(f"{as_json(key)}: {value}" for key, value in items.items()) + "}"
)
_zones = st.integers(min_value=-720, max_value=840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=255)


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, str]]:
    """Draw the members of a log's events, as JSON texts, in the order of an export."""
    streams = draw(st.lists(st.tuples(_names, _names), min_size=1, max_size=3, unique=True))
    versions = dict.fromkeys(streams, 0)
    events = []
    for number, (stream, event_id) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from(streams), st.uuids()), max_size=8, unique_by=lambda each: each[1]))
    ):
        versions[stream] += 1
        moment, recorded = (
            draw(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=_zones))  # noqa: DTZ001
            for _ in range(2)
        )
        events.append(
            {
                "position": str(number * 3),
                "event_id": as_json(str(event_id)),
                "aggregate_type": as_json(stream[0]),
                "aggregate_id": as_json(stream[1]),
                "version": str(versions[stream]),
                "event_type": as_json(draw(_names)),
                "event_version": str(draw(st.integers(min_value=1, max_value=2**15 - 1))),
                "event_data": draw(_objects),
                "metadata": draw(st.one_of(st.just("null"), _objects)),
                "occurred_at": as_json(moment.astimezone(UTC).isoformat()),
                "correlation_id": draw(st.one_of(st.just("null"), st.uuids().map(lambda each: as_json(str(each))))),
                "causation_id": draw(st.one_of(st.just("null"), st.uuids().map(lambda each: as_json(str(each))))),
                "recorded_at": as_json(recorded.astimezone(UTC).isoformat()),
            }
        )
    return events
