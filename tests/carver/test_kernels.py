"""Kernels: equal to their plain twins, and to plain search, on one table of cases and on random data."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding as llvm
from llvmlite import ir

from carver.automaton import RESUME_FIELDS, build
from carver.fingerprints import choose
from carver.kernels import (
    BATCH_BLOCKS,
    FAMILY,
    PORTABLE,
    STRETCH_BYTES,
    VARIANTS,
    scan_piece,
    scan_probes,
    sieve_pair,
    suspect_bits,
)
from signatures import formats
from signatures.format import ANY, Pattern, SectorProbe
from tests.carver.scanning import CASES, MAGICS, MANY, a_format, oracle, planted, walked
from tests.command import need_program


def split(keys):
    return [(key >> 16, key & 0xFFFF) for key in keys]


def kernel_hits(automaton, data, limit, room=1 << 12, variant=VARIANTS[0], first=0):
    """All hits of the kernel, through an array of `room` hits."""
    found, resume, keys = np.zeros(room, np.int64), np.zeros(RESUME_FIELDS, np.int64), []
    prints = automaton.fingerprints
    tables = (automaton.next_states, automaton.depths, automaton.out_first, automaton.out_numbers)
    tables += (automaton.ends, automaton.asked_first, automaton.asked_places, automaton.asked_allowed)
    sieves = (prints.nibbles, prints.pairs, prints.walks, automaton.tails, variant if prints.plain else PORTABLE)
    sieves += (np.zeros(BATCH_BLOCKS, np.uint64),)
    probes = (automaton.probe_numbers, automaton.probe_masks, automaton.probe_order)
    array = np.frombuffer(data, np.uint8)
    while resume[0] >= 0:
        count = scan_piece(array, limit, first, 512, *tables, *sieves, *probes, found, resume)
        assert count <= room
        keys += found[:count].tolist()
    return split(keys)


def probe_hits(automaton, data, first=0, room=1 << 12):
    found, resume, keys = np.zeros(room, np.int64), np.zeros(RESUME_FIELDS, np.int64), []
    tables = (automaton.probe_numbers, automaton.probe_masks, automaton.probe_order)
    while resume[2] < len(data):
        count = scan_probes(np.frombuffer(data, np.uint8), first, len(data), 512, *tables, found, 0, resume)
        keys += found[:count].tolist()
    return split(keys)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("room", [8, 9, 4096])
@pytest.mark.parametrize("case", CASES)
def test_kernel_tells_each_hit_once_even_when_its_array_overflows(case, room, variant):
    magics, data = CASES[case]
    automaton = build([a_format(magics=magics)])
    hits = kernel_hits(automaton, data, len(data), room, variant)
    assert sorted(hits) == oracle(data, automaton.table)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_hits_that_start_at_the_limit_or_later_are_not_told(case, variant):
    magics, data = CASES[case]
    automaton = build([a_format(magics=magics)])
    for limit in (0, 1, len(data) // 2, len(data) - 1):
        assert sorted(kernel_hits(automaton, data, limit, variant=variant)) == walked(automaton, data, limit)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("magic", MAGICS)
def test_a_pattern_is_seen_at_every_place_of_a_block(magic, variant):
    automaton = build([a_format(magics=MAGICS)])
    for at in range(64, 64 + 130):
        data = planted(400, [at], [magic], seed=at)
        assert kernel_hits(automaton, data, len(data), variant=variant) == walked(automaton, data, len(data)) != []


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pattern_is_seen_where_the_data_ends(variant):
    automaton = build([a_format(magics=MAGICS)])
    for size in range(4, 300):
        data = bytes(size - 4) + b"PK\x03\x04"
        assert kernel_hits(automaton, data, size, variant=variant) == [(size - 4, 0)]
        assert kernel_hits(automaton, data[:-1], size, variant=variant) == []


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(VARIANTS))
def test_kernel_equals_plain_search_on_random_patterns_and_data(draw, variant):
    letters = st.sampled_from(b"ab\0\xff")  # few letters: patterns overlap, and lie inside each other
    pattern = st.lists(letters, min_size=4, max_size=40).map(bytes)
    magics = draw.draw(st.lists(pattern, min_size=1, max_size=12, unique=True))
    data = draw.draw(st.lists(letters | st.integers(0, 255), max_size=400).map(bytes))
    pieces = draw.draw(st.lists(st.sampled_from(magics), max_size=6))
    data = data.join([b"", *pieces, b""]) if len(data) < 120 else data + b"".join(pieces)
    automaton = build([a_format(magics=magics)])
    assert sorted(kernel_hits(automaton, data, len(data), room=16, variant=variant)) == oracle(data, automaton.table)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(VARIANTS))
def test_what_is_asked_around_a_pattern_is_asked_in_the_kernel(draw, variant):
    letters = st.sampled_from(b"ab\0")
    asked = st.lists(st.sampled_from([b"a", b"ab", b"b\0", ANY]), max_size=5).map(tuple)
    magics = draw.draw(st.lists(st.lists(letters, min_size=4, max_size=8).map(bytes), min_size=1, max_size=6))
    patterns = tuple(
        Pattern(bytes=magic, name=str(n), before=draw.draw(asked), after=draw.draw(asked))
        for n, magic in enumerate(magics)
    )
    data = draw.draw(st.lists(letters, max_size=300).map(bytes)) + magics[0]
    automaton = build([a_format(patterns=patterns)])
    limit = draw.draw(st.integers(0, len(data)))
    hits = sorted(kernel_hits(automaton, data, limit, room=16, variant=variant))
    assert hits == [hit for hit in oracle(data, automaton.table) if hit[0] < limit] == walked(automaton, data, limit)


@numba.njit
def sieved(data, position, nibbles, pair_marks, variant, words):
    return sieve_pair(data, position, nibbles, pair_marks, variant, words, 0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("magics", [MAGICS, MANY, tuple(p.bytes for f in formats().values() for p in f.patterns)])
def test_the_prefilter_passes_what_its_twin_passes_and_every_fingerprint(magics, variant):
    prints = choose(tuple(dict.fromkeys(magics)))
    data = planted(4096 + 131, range(40, 4000, 97), magics)
    array = np.frombuffer(data, np.uint8)
    twin = pairs_pass if variant == PORTABLE else nibbles_pass
    expected = [twin(prints, data, at) for at in range(4096)]
    told, words = [], np.zeros(2, np.uint64)
    for pair in range(0, 4096, 128):
        dirty = int(sieved(array, pair, prints.nibbles, prints.pairs, variant, words))
        assert dirty == bool(words[0]) | bool(words[1]) << 1
        told += [bool(int(bits) >> i & 1) for bits in words for i in range(64)]
    assert told == expected
    windows = {m[p : p + 4] for m, p in zip(dict.fromkeys(magics), prints.places, strict=True)}
    assert all(passed for at, passed in enumerate(expected) if data[at : at + 4] in windows)


def nibbles_pass(prints, data, at):
    """Twin of the vector prefilter."""
    if max(data[at + 1 : at + 4]) >= 0x80:
        return False
    buckets = int(prints.nibbles[4][data[at] >> 4])
    for place in range(4):
        buckets &= int(prints.nibbles[place][data[at + place] & 15])
    return buckets != 0


def pairs_pass(prints, data, at):
    """Twin of the portable prefilter."""

    def mark(pair):
        return int(prints.pairs[data[pair] | data[pair + 1] << 8])

    return bool(mark(at + 1) & 2) if at % 2 else bool(mark(at) & 4 or mark(at + 2) & 1)


def test_the_prefilter_compiles_for_arm64():
    assembly = arm64_assembly()
    assert "tbl" in assembly
    assert "\tbl\t" not in assembly  # all is instructions: nothing is called


def test_the_prefilter_of_arm64_passes_what_its_twin_passes(tmp_path):
    need_program("qemu-aarch64", "aarch64-linux-gnu-gcc")
    keys = tuple(dict.fromkeys(p.bytes for f in formats().values() for p in f.patterns))
    prints, size = choose(keys), 16 << 10
    data = planted(size + 131, range(40, size, 97), keys)
    (tmp_path / "prefilter.s").write_text(arm64_assembly())
    (tmp_path / "main.c").write_text(ARM64_MAIN)
    (tmp_path / "input").write_bytes(prints.nibbles.tobytes() + data)
    build_it = ["aarch64-linux-gnu-gcc", "-static", "-o", "prefilter", "main.c", "prefilter.s"]
    subprocess.run(build_it, cwd=tmp_path, check=True, capture_output=True)
    run = ["qemu-aarch64", "./prefilter", str(len(prints.nibbles) * 16), str(size)]
    with (tmp_path / "input").open("rb") as file:
        done = subprocess.run(run, cwd=tmp_path, check=True, stdin=file, capture_output=True, text=True)
    told = [int(line) for line in done.stdout.splitlines()]
    expected = [nibbles_pass(prints, data, at) for at in range(size)]
    assert len(told) == size // 64
    for number, bits in enumerate(told):
        place = number * 64
        assert [bool(bits >> i & 1) for i in range(64)] == expected[place : place + 64]
    assert any(told)


ARM64_MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
uint64_t bits(const uint8_t *, const uint8_t *);
static uint8_t all[1 << 20];
int main(int count, char **words) {
    size_t tables = atoi(words[1]), size = atoi(words[2]);
    if (fread(all, 1, sizeof all, stdin) < tables + size + 131) return 1;
    for (size_t at = 0; at < size; at += 64)
        printf("%lu\\n", bits(all + tables + at, all));
    return 0;
}
"""


def arm64_assembly():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this llvmlite knows no arm64")
    machine = target.create_target_machine(features="+neon")
    return str(machine.emit_assembly(llvm.parse_assembly(str(prefilter_ir(lanes=16)))))


def prefilter_ir(lanes):
    module, pointer = ir.Module(), ir.IntType(8).as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), [pointer, pointer]), "bits")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(suspect_bits(builder, "aarch64", lanes, *function.args))
    return module


PROBES = (
    SectorProbe(allowed=(b"\x08", b"\x01\x02\x03", b"\x12\x1a"), name="onnx-like"),
    SectorProbe(allowed=(bytes(range(128)),) * 4, name="text-like"),
)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("room", [8, 100, 4096])
def test_patterns_and_probes_are_told_stretch_by_stretch_as_by_plain_search(room, variant):
    size = 2 * STRETCH_BYTES + 700
    borders = (b * STRETCH_BYTES - d for b in (1, 2) for d in (33, 20, 3, 0, 600))
    data = bytearray(planted(size, borders))
    for at in range(0, size, 1024):
        data[at : at + 3] = b"\x08\x03\x12"
    automaton = build([a_format(magics=MAGICS, probes=PROBES)])
    for end in (size, 2 * STRETCH_BYTES, 2 * STRETCH_BYTES + 3, STRETCH_BYTES - 1):
        told = kernel_hits(automaton, bytes(data[:end]), end, room, variant)
        assert sorted(told) == oracle(bytes(data[:end]), automaton.table)


@pytest.mark.parametrize("room", [2, 3, 4096])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 511, 515, 5000])
def test_probes_hold_at_sector_starts_only(size, room):
    data = bytearray(planted(size, ()))
    for at in range(0, size, 256):
        data[at : at + 3] = b"\x08\x03\x12"
    automaton = build([a_format(probes=PROBES)])
    hits = probe_hits(automaton, bytes(data[:size]), room=room)
    assert hits == oracle(bytes(data[:size]), automaton.table)
    assert (size < 3) or hits


def test_probe_kernel_begins_at_the_sector_it_is_given():
    automaton = build([a_format(probes=(SectorProbe(allowed=(b"\0",)),))])
    assert probe_hits(automaton, bytes(1200), first=100) == [(100, 0), (612, 0), (1124, 0)]


SMALL_SCAN = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from carver import kernels
from carver.scan import scan
from imaging.source import RawImage
from tests.carver.scanning import MAGICS, a_format
with RawImage(sys.argv[1]) as image:
    print(kernels.VARIANTS, [hit for chunk in scan(image, [a_format(magics=MAGICS)]) for hit in chunk.hits.tolist()])
"""


def small_scan(tmp_path, **environment):
    """What a scan of its own process prints and logs."""
    image = tmp_path / "i"
    image.write_bytes(bytes(1000) + b"PK\x03\x04" + bytes(200) + b"\x89HDF\r\n\x1a\n")
    command = [sys.executable, "-c", SMALL_SCAN, str(image)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" [(1000, 0), (1204, 1)]\n")
    return done


@pytest.mark.parametrize(
    ("features", "variants"),
    [pytest.param("+ssse3", "(1, 0)", marks=pytest.mark.skipif(FAMILY != "x86_64", reason="x86-64")), ("", "(0,)")],
)
def test_an_older_processor_gets_what_it_can_run(tmp_path, features, variants):
    chosen = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    assert small_scan(tmp_path, **chosen).stdout.startswith(variants)


def test_the_second_run_compiles_nothing(tmp_path):
    first, second = (small_scan(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "kept")) for _ in range(2))
    assert "compiling" in first.stderr
    assert second.stderr == ""


def test_a_machine_where_nothing_can_be_kept_still_scans(tmp_path):
    nowhere = {"NUMBA_CACHE_DIR": "/proc/nowhere", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert "cannot be kept" in small_scan(tmp_path, **nowhere).stderr
