"""What an ONNX model's first bytes may be: its first field, whichever a writer puts first, and what leads on from it.

These are asked at the start of each sector, billions of times, so each is narrow enough to let through less than one
random sector in 40,000. Text is far more frequent on drives than any model, and some tags are letters and signs of it:
behind those a byte is asked for that text does not have. A model that begins with a doc string of 32 to 127 letters is
the one that cannot be told from text so; it is found by what stands near its start.
"""

from __future__ import annotations

import string
from typing import Final

from signatures._onnx_starts import AFTER_IR_VERSION, FIRST_TAGS, IR_VERSIONS, TEXT_TAGS
from signatures.format import ANY, Asked, SectorProbe

CONTINUED, LAST = bytes(range(0x80, 0x100)), bytes(range(0x01, 0x80))  # of a number in groups of seven
SMALL = bytes(range(0x80))
NO_TEXT = bytes(set(range(1, 0x20)) - set(b"\t\n\r"))
LETTERS = string.ascii_letters.encode()
WORD = LETTERS + string.digits.encode()
LOWER = string.ascii_lowercase.encode()
DOMAIN = LOWER + b".-_0123456789"
PRINTABLE = bytes(range(0x20, 0x7F))
PROSE = PRINTABLE + b"\t\n\r"
VERSION_STARTS, VERSION = b"0123456789v", b"0123456789.+-_abrcdevpost"
IR_VERSION, PRODUCER, PRODUCER_VERSION, DOMAIN_TAG = b"\x08", b"\x12", b"\x1a", b"\x22"
MODEL_VERSION, DOC, GRAPH, OPSET, METADATA = b"\x28", b"\x32", b"\x3a", b"\x42", b"\x72"
TWO_BYTE_TAGS = (b"\xa2\xca\xd2", b"\x01")  # training, functions, configuration
MESSAGE_STARTS = b"\x0a\x12\x1a\x22"
GRAPH_TAGS = b"\x0a\x12\x2a\x5a"  # a graph begins with a node, its name, an initializer or an input
KEY, VERSION_NUMBER = b"\x0a", b"\x10"

FIRST_BYTES: Final[dict[str, Asked]] = {
    "ir-version": (IR_VERSION, IR_VERSIONS, AFTER_IR_VERSION),
    "graph-first-1": (GRAPH, LAST[8:], KEY, LAST, MESSAGE_STARTS),
    "graph-first-2": (GRAPH, CONTINUED, LAST, GRAPH_TAGS),
    "graph-first-3": (GRAPH, CONTINUED, CONTINUED, LAST, GRAPH_TAGS),
    "graph-first-4": (GRAPH, CONTINUED, CONTINUED, CONTINUED, LAST, GRAPH_TAGS),
    "producer-first": (PRODUCER, LAST[3:], LETTERS, PRINTABLE, PRINTABLE, PRINTABLE, PRINTABLE + FIRST_TAGS),
    "producer-version-first": (PRODUCER_VERSION, LAST[2:63], VERSION_STARTS, VERSION, VERSION + FIRST_TAGS),
    "short-text-first": (PRODUCER + PRODUCER_VERSION, b"\x01\x02", WORD, WORD + b"." + FIRST_TAGS),
    "empty-text-first": (TEXT_TAGS, b"\0", FIRST_TAGS, bytes(range(1, 256))),
    "domain-first": (DOMAIN_TAG, NO_TEXT + b"\r", LOWER, DOMAIN, DOMAIN, DOMAIN + FIRST_TAGS),
    "domain-first-ai": (DOMAIN_TAG, b"\t\n", b"a", b"i", b"."),
    "model-version-ir-version": (MODEL_VERSION, ANY, IR_VERSION, IR_VERSIONS, AFTER_IR_VERSION),
    "model-version-2-ir-version": (MODEL_VERSION, CONTINUED, LAST, IR_VERSION, IR_VERSIONS, AFTER_IR_VERSION),
    "model-version-text": (MODEL_VERSION, SMALL, PRODUCER + PRODUCER_VERSION, LAST, PRINTABLE, PRINTABLE + FIRST_TAGS),
    "model-version-long-text": (MODEL_VERSION, SMALL, DOMAIN_TAG + DOC, NO_TEXT + CONTINUED, PRINTABLE + LAST[:4]),
    "model-version-2": (MODEL_VERSION, CONTINUED, LAST, TEXT_TAGS[:2] + GRAPH + OPSET + METADATA, ANY, SMALL),
    "model-version-graph": (MODEL_VERSION, SMALL, GRAPH, CONTINUED),
    "model-version-message": (MODEL_VERSION, SMALL, OPSET + METADATA, LAST[1:], KEY + VERSION_NUMBER, SMALL[:32]),
    "model-version-other-message": (MODEL_VERSION, SMALL, *TWO_BYTE_TAGS),
    "doc-first": (DOC, NO_TEXT, PROSE, PROSE, PROSE, PROSE + FIRST_TAGS),
    "doc-first-2": (DOC, CONTINUED, LAST, PROSE, PROSE, PROSE, PROSE, PROSE, PROSE),
    "opset-first": (OPSET, b"\x02\x04", KEY + VERSION_NUMBER, SMALL, VERSION_NUMBER + FIRST_TAGS),
    "opset-first-domain": (OPSET, LAST[5:64], KEY, LAST[2:60], LOWER, DOMAIN, DOMAIN),
    "metadata-first": (METADATA, LAST[3:], KEY, NO_TEXT, PRINTABLE, PRINTABLE + b"\x12"),
    "metadata-first-2": (METADATA, CONTINUED, LAST, KEY, NO_TEXT, PRINTABLE, PRINTABLE + b"\x12"),
    "message-first": (*TWO_BYTE_TAGS, LAST[3:], MESSAGE_STARTS, LAST, PRINTABLE + FIRST_TAGS + KEY),
    "message-first-2": (*TWO_BYTE_TAGS, CONTINUED, LAST, MESSAGE_STARTS, LAST, PRINTABLE + FIRST_TAGS + KEY),
    "message-first-3": (*TWO_BYTE_TAGS, CONTINUED, CONTINUED, LAST, MESSAGE_STARTS),
}
PROBES: Final = tuple(SectorProbe(allowed=allowed, name=name) for name, allowed in FIRST_BYTES.items())
