"""A source in memory, and short ways to judge bytes and to find starts as the engine does."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.extent import ExtentSet, span
from imaging.window import Budget, Window
from signatures.format import Format
from signatures.verdict import Verdict


class MemorySource:
    """Bytes as a source; `reads` counts what was asked."""

    locator = "memory"
    sector_bytes = 512

    def __init__(self, content: bytes, unread: ExtentSet | None = None) -> None:
        self.content = content
        self.size_bytes = len(content)
        self.unread = unread
        self.reads = 0

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        self.reads += 1
        return self.content[offset_bytes : offset_bytes + size_bytes]


def window_on(content: bytes, *, unread: ExtentSet | None = None, budget: Budget | None = None) -> Window:
    return Window(MemorySource(content, unread), (span(0, len(content)),), budget=budget)


def judge(form: Format, content: bytes, *, unread: ExtentSet | None = None) -> Verdict:
    return form.validate(window_on(content, unread=unread))


def starts_in(form: Format, content: bytes) -> set[int]:
    """Return every file start that the format's patterns and its `starts` propose."""
    source, found = MemorySource(content), set[int]()
    for pattern in form.patterns:
        at = content.find(pattern.bytes)
        while at >= 0:
            found.update(form.starts(source, at, pattern) if form.starts else [at - pattern.offset_bytes])
            at = content.find(pattern.bytes, at + 1)
    return found


def codes(verdict: Verdict) -> set[str]:
    return {finding.code for finding in verdict.findings}


def truth(verdict: Verdict) -> list[tuple[str, str, tuple[int, ...]]]:
    return sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in verdict.tensors)


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def ids(samples: Iterable[object]) -> list[str]:
    return [sample.name for sample in samples]  # type: ignore[attr-defined]
