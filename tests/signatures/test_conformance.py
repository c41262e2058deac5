"""What is asked of every format alike. A new module with a FORMAT is picked up by itself, and so is its builder."""

from __future__ import annotations

import importlib
import json
import random
from functools import cache
from pathlib import Path

import pytest

import signatures
from carver.automaton import build
from carver.candidates import candidates
from carver.judge import judge
from carver.scan import scan
from carver.verdict_json import verdict_from_json, verdict_to_json
from fixtures.formats.sample import Sample
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from signatures.format import Format
from signatures.verdict import Grade, Verdict

SEED = 20
FLIPS = 60
CUTS = 25
FORMATS = signatures.formats()


class Memory:
    """Bytes as a source."""

    locator = "memory"
    sector_bytes = 512
    unread = None

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.content[offset_bytes : offset_bytes + size_bytes]


@cache
def samples(name: str) -> tuple[Sample, ...]:
    return tuple(importlib.import_module(f"fixtures.formats.{name}").samples(SEED))


def each_sample() -> list[pytest.ParameterSet]:
    return [pytest.param(FORMATS[name], one, id=f"{name}-{one.name}") for name in FORMATS for one in samples(name)]


def each_scanned_sample() -> list[pytest.ParameterSet]:
    """Return the samples of formats that have patterns; others are found by another file's verdict, see their tests."""
    return [
        pytest.param(FORMATS[name], one, id=f"{name}-{one.name}")
        for name in FORMATS
        for one in samples(name)
        if FORMATS[name].patterns or FORMATS[name].probes
    ]


def verdict_of(form: Format, content: bytes) -> Verdict:
    return form.validate(Window(Memory(content), (span(0, len(content)),)))


def whole(sample: Sample) -> bytes:
    return sample.content + sample.behind


def tensors_of(verdict: Verdict) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(tensor.name, tensor.dtype, tensor.shape) for tensor in verdict.tensors}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_builder_whose_samples_have_names_of_their_own(name: str) -> None:
    names = [sample.name for sample in samples(name)]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_declared_in_the_module_of_its_name(name: str) -> None:
    assert importlib.import_module(f"signatures.{name}").FORMAT is FORMATS[name]
    assert FORMATS[name].suffix.startswith(".")
    assert FORMATS[name].proves


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_stands_in_the_readme(name: str) -> None:
    row = f"| `{name}` | {FORMATS[name].title} | {FORMATS[name].proves} |"
    assert row in (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("tail", ["nothing", "zeros", "random", "itself"])
@pytest.mark.parametrize(("form", "sample"), each_sample())
def test_a_whole_file_has_its_exact_length_grade_and_tensors_whatever_follows(
    form: Format, sample: Sample, tail: str
) -> None:
    slack = -len(sample.content) % 512
    random_tail = random.Random(1).randbytes(4096)
    tails = {"nothing": b"", "zeros": bytes(4096), "random": random_tail, "itself": bytes(slack) + whole(sample)}
    verdict = verdict_of(form, whole(sample) + tails[tail])
    assert (verdict.grade, verdict.size_bytes) == (sample.grade, len(sample.content)), verdict.findings
    assert tensors_of(verdict) == set(sample.tensors)


@pytest.mark.parametrize(("form", "sample"), each_sample())
def test_tensors_lie_inside_the_file_and_verdicts_survive_json(form: Format, sample: Sample) -> None:
    verdict = verdict_of(form, whole(sample))
    ends = [extent.end_bytes for tensor in verdict.tensors for extent in tensor.layout]
    assert max(ends, default=0) <= len(sample.content)
    assert verdict_from_json(json.loads(json.dumps(verdict_to_json(verdict), allow_nan=False))) == verdict


@pytest.mark.parametrize(("form", "sample"), each_sample())
def test_a_cut_file_is_never_good_at_its_full_length(form: Format, sample: Sample) -> None:
    rng = random.Random(2)
    for _ in range(CUTS):
        cut = rng.randrange(len(sample.content))
        verdict = verdict_of(form, sample.content[:cut] + sample.behind)
        assert not verdict.grade.good or verdict.size_bytes <= cut
        if verdict.grade is Grade.INTACT:
            pytest.fail(f"cut at {cut}: still called intact")


@pytest.mark.parametrize(("form", "sample"), each_sample())
def test_a_changed_byte_is_survived_and_never_intact_where_it_touches_a_tensor(form: Format, sample: Sample) -> None:
    rng = random.Random(3)
    proven = [extent for tensor in verdict_of(form, whole(sample)).tensors for extent in tensor.layout]
    for _ in range(FLIPS):
        at = rng.randrange(len(sample.content))
        changed = bytearray(sample.content)
        changed[at] ^= 1 << rng.randrange(8)
        verdict = verdict_of(form, bytes(changed) + sample.behind)
        assert isinstance(verdict, Verdict)
        if any(extent.offset_bytes <= at < extent.end_bytes for extent in proven):
            assert verdict.grade is not Grade.INTACT, f"byte {at} changed"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"\0", bytes(8192), random.Random(4).randbytes(8192)], ids=["0", "1", "z", "r"]
)
def test_nothing_is_made_of_nothing(name: str, content: bytes) -> None:
    verdict = verdict_of(FORMATS[name], content)
    assert verdict.grade is Grade.REJECTED
    assert verdict.findings[0].code


@pytest.mark.parametrize(("form", "sample"), each_scanned_sample())
def test_the_scanner_finds_it_at_a_sector_start(form: Format, sample: Sample, tmp_path: Path) -> None:
    start = 3 * 512
    path = tmp_path / "image"
    path.write_bytes(random.Random(5).randbytes(start) + whole(sample) + bytes(-len(whole(sample)) % 512 + 512))
    with RawImage(path) as image:
        hits = [chunk.hits for chunk in scan(image, list(FORMATS.values()))]
        found = list(candidates(image, hits, build(FORMATS.values()).table, FORMATS))
        right = [one for one in found if (one.format, one.start_bytes) == (form.name, start)]
        assert right
        assert judge(image, right[0], FORMATS).size_bytes == len(sample.content)
