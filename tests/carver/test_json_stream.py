"""A large JSON object, read value by value."""

import io
import json
from collections.abc import Iterator
from random import Random

import pytest

from carver import json_stream
from carver.json_stream import entries

SCALARS = (None, True, False, 0, -17, 1 << 70, 2.5, -1e300, "", "x", '"}],:{[\\', "\n\u202eü😀")


def value_of(random, depth):
    kind = random.randrange(3) if depth else 2
    if kind == 0:
        return [value_of(random, depth - 1) for _ in range(random.randrange(4))]
    if kind == 1:
        return {f"{random.choice(SCALARS)}{n}": value_of(random, depth - 1) for n in range(random.randrange(4))}
    return random.choice(SCALARS)


def read(text):
    found = {}
    for key, value in entries(io.StringIO(text)):
        found[key] = list(value) if isinstance(value, Iterator) else value
    return found


@pytest.mark.parametrize("characters", [1, 2, 7, 1 << 20])
def test_what_is_read_in_pieces_is_what_json_reads_whole(characters, monkeypatch):
    monkeypatch.setattr(json_stream, "READ_CHARACTERS", characters)
    random = Random(7)
    for number in range(200):
        document = {f"key {n}": value_of(random, 3) for n in range(random.randrange(5))}
        assert read(json.dumps(document, indent=number % 2 or None, ensure_ascii=number % 3 == 0)) == document


def test_a_list_that_nobody_goes_through_is_passed_over():
    assert [key for key, _ in entries(io.StringIO('{"a": [1, [2]], "b": 3, "c": []}'))] == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["[]", " 3 ", '"x"', "{}", " { } "])
def test_what_is_no_object_has_no_entries(text):
    assert read(text) == {}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1", "{]", '{"a"}', '{"a" 1}', '{"a": [1 2]}', '{"a": [1,]}', '{"a": 1,}', '{"a": [1', '{"a": 1} x'],
)
def test_what_is_no_json_is_an_error(text):
    with pytest.raises(ValueError, match=r"."):
        read(text)


def test_a_value_that_does_not_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(json_stream, "READ_CHARACTERS", 8)
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 100)
    text = io.StringIO('{"a": "' + "x" * 10_000)
    with pytest.raises(ValueError, match="does not end"):
        list(entries(text))
    assert text.tell() < 1000
