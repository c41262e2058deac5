"""Where an ONNX model ends, when the order of its fields does not tell.

Behind the graph any field may come that is still missing, and nothing says which one is the last. Messages and texts
prove themselves, as random bytes next to never have their grammar. A short number, or an empty text in a model that is
in order else, proves nothing: it counts only with a sure field behind it, or where something shows that the file ends
right behind it: the end of the source or of a sector (elsewhere a file system leaves zeros behind a file), such zeros,
the next model. Where two models touch, the second is taken to begin as the first does, since one writer wrote both.
What stays open is told as another possible end; the file then ends at the last field that is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from signatures._onnx_schema import GRAPH, IR_VERSION, MESSAGES, MODEL
from signatures._protobuf import LENGTH, VARINT, MalformedError, Wire

MAX_IR_VERSION = 0x20  # 14 today
GRAPH_CHILDREN = frozenset(
    bytes((number << 3 | LENGTH,)) for number in MESSAGES["Graph"] if number < 16
)  # in any order
LEADING_FIELDS = 3  # of a model, enough to know one
MIN_TEXT = 3  # one place in 200,000 of random bytes has a field with such a text, one in 10,000 has one with any
TEXT_BYTES = bytes((0x09, 0x0A, 0x0D, *range(0x20, 0x7F)))
BEHIND_TEXT_BYTES = 4
LOOK_BYTES = 64
ZEROS_BYTES = 16
SECTOR_BYTES = 512  # files begin at sectors, so that those of a window lie where those of the drive do


@dataclass(slots=True)
class Tail:
    """The order of a model's fields, and what is open about its end. No offset is 0: each is behind some field.

    Attributes:
        numbers: of the fields, each once, as they came first.
        last_number: of the field before this place.
        ascending: whether all came in ascending order until the model was complete.
        reached: behind the last field.
        sure_end: behind the last field that is sure.
        complete_at: behind the field that made the model complete, where another one follows.
        disorder_at: where, behind that, the first field stands that comes out of order.
        repeat_at: where, behind the graph, a thing is said again for the first time.
        again_at: where, behind a complete model, a field stands with the number that the model begins with.
        again: numbers of the fields from there on, as `numbers`.
    """

    numbers: list[int] = field(default_factory=list)
    last_number: int = 0
    ascending: bool = True
    reached: int = 0
    sure_end: int = 0
    complete_at: int = 0
    disorder_at: int = 0
    repeat_at: int = 0
    again_at: int = 0
    again: list[int] = field(default_factory=list)

    @property
    def in_order(self) -> bool:
        """Whether no field that is sure came out of order."""
        return self.ascending and not 0 < self.disorder_at < self.sure_end

    def take(self, number: int, stop: int, *, sure: bool, complete: bool) -> None:
        """Note a field that ends at `stop`; `complete` is what the model was before it."""
        ordered = self.ascending and number >= self.last_number
        if not complete:
            self.ascending = ordered
        else:
            self.complete_at = self.complete_at or self.reached
            self.disorder_at = self.disorder_at or (0 if ordered else self.reached)
            if not self.again_at and number == self.numbers[0]:
                self.again_at = self.reached
            if self.again_at and number not in self.again:
                self.again.append(number)
        if number not in self.numbers:
            self.numbers.append(number)
        self.last_number = number
        self.reached = stop
        if sure:
            self.sure_end = stop

    def ends(self, wire: Wire) -> tuple[int, int]:
        """Return where the file ends, and where else it may; 0 where nothing is open."""
        follower = leading_number(wire, self.reached)
        if follower:
            return self._before_a_model(follower)
        if self.reached == self.sure_end:
            return self.reached, self.repeat_at
        behind = wire.window.read_at(self.reached, ZEROS_BYTES)
        if not behind:
            return self.reached, 0
        if not any(behind):
            return self.reached, self.sure_end if self.in_order else 0
        if self.reached % SECTOR_BYTES == 0:  # elsewhere a file system leaves zeros behind a file
            return self.reached, self.sure_end
        return self.sure_end, self.reached

    def _before_a_model(self, follower: int) -> tuple[int, int]:
        """Return what `ends` does, where a field stands that begins another model, or goes on with it."""
        if follower == self.numbers[0]:
            return (self.repeat_at, self.reached) if self.repeat_at else (self.reached, 0)
        if self.again_at and _in_order((*self.again, follower), self.numbers):
            return self.again_at, self.reached
        if self.repeat_at:
            return self.repeat_at, self.reached
        if follower == IR_VERSION:
            return self.reached, 0
        if self.disorder_at:
            return self.disorder_at, self.reached
        return self.reached, self.complete_at


def leading_number(wire: Wire, start: int) -> int:
    """Return the number of the field with which a model begins at `start`, or 0: its first fields, looked at only."""
    numbers: list[int] = []
    try:
        for number, kind, value, body, stop in wire.fields(start, start + (1 << 62)):
            holds = MODEL.get(number, "")
            if not holds or kind != (VARINT if holds == "int" else LENGTH) or (holds in MESSAGES and body == stop):
                return 0
            if number == IR_VERSION and not 0 < value <= MAX_IR_VERSION:
                return 0
            numbers.append(number)
            if number == GRAPH:
                return numbers[0] if wire.bytes_at(body, body + 1) in GRAPH_CHILDREN else 0
            if len(numbers) == LEADING_FIELDS:
                return numbers[0]
    except MalformedError:
        return 0
    return 0


def begins_text(wire: Wire, body: int) -> bool:
    """Tell whether there is text from `body` to the end of the window, as far as a look goes."""
    look = wire.bytes_at(body, min(body + LOOK_BYTES, wire.size_bytes)).decode(errors="replace")
    return len(look) >= MIN_TEXT and _readable(look.rstrip("\ufffd"))  # the last letter may be cut


def is_sure(wire: Wire, number: int, text: str, body: int, stop: int) -> bool:
    """Tell whether a field of text, whose length is told right before `body`, is no piece of a longer text."""
    if not _readable(text):
        return False
    head = bytes((number << 3 | LENGTH,)) + wire.bytes_at(body - 1, body)
    behind = wire.bytes_at(stop, min(stop + BEHIND_TEXT_BYTES, wire.size_bytes))
    return bool(head.strip(TEXT_BYTES)) or not behind or bool(behind.strip(TEXT_BYTES))


def _readable(text: str) -> bool:
    return all(letter.isprintable() or letter in "\t\n\r" for letter in text)


def _in_order(numbers: Sequence[int], model: Sequence[int]) -> bool:
    """Tell whether all `numbers` are among those of `model`, in the same order."""
    places = [model.index(number) for number in numbers if number in model]
    return len(places) == len(numbers) and places == sorted(places)
