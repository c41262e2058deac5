"""Patterns on whole files: anchors tell of their insides, and what is asked around a pattern costs no real file."""

import importlib
import io
import zipfile

import pytest

from carver.automaton import build
from fixtures.formats import hdf5, pytorch_zip
from signatures import formats
from signatures.format import Pattern
from tests.carver.scanning import asked, found, oracle

STRUCTURES = {
    "group tree": b"TREE\0",
    "symbol table node": b"SNOD",
    "local heap": b"HEAP",
    "object header": b"OHDR",
    "object header continuation": b"OCHK",
    "fractal heap": b"FRHP",
    "fractal heap block": b"FHDB",
    "tree": b"BTHD",
    "tree leaf": b"BTLF",
}


def places(content, name):
    """Where each pattern of a format hits, by its name."""
    table = build([formats()[name]]).table
    told = {}
    for at, number in oracle(content, table):
        told.setdefault(table[number][1].name, []).append(at)
    return told


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_anchor_of_hdf5_finds_every_structure_of_its_kind(structure):
    contents = [sample.content for sample in hdf5.samples(3) if len(sample.content) < 1 << 20]
    told = sum(len(places(content, "hdf5").get(f"anchor {structure}", [])) for content in contents)
    assert told == sum(len(found(content, STRUCTURES[structure])) for content in contents) > 0


def test_anchors_of_a_torch_zip_are_its_directory_and_its_descriptors():
    (sample,) = (sample for sample in pytorch_zip.samples(3) if sample.name == "save-new")
    told = places(sample.content, "pytorch_zip")
    with zipfile.ZipFile(io.BytesIO(sample.content)) as archive:
        sized = [info for info in archive.infolist() if info.file_size]
    assert len(told["anchor directory entry"]) == len(told["anchor descriptor"]) == len(sized) > 0


@pytest.mark.parametrize("name", [name for name, form in formats().items() if form.patterns])
def test_what_is_asked_around_a_pattern_holds_at_the_start_of_every_sample(name):
    for sample in importlib.import_module(f"fixtures.formats.{name}").samples(3):
        for pattern in (p for p in formats()[name].patterns if isinstance(p, Pattern) and (p.before or p.after)):
            at = pattern.offset_bytes
            if not pattern.anchor and sample.content[at : at + len(pattern.bytes)] == pattern.bytes:
                assert asked(sample.content, at, pattern), (sample.name, pattern.name)
