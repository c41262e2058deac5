"""The checksum kernels against published vectors and against plain Python twins."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from fixtures.formats.tf_checkpoint_index import crc32c as crc32c_twin
from signatures.kernels import checksums
from signatures.kernels.checksums import crc32c, find_crc32c, fletcher32, lookup3

LOW_32 = 0xFFFFFFFF


def array(data):
    return np.frombuffer(data, dtype=np.uint8)


def rotate(word, by):
    return ((word << by) | (word >> (32 - by))) & LOW_32


def lookup3_twin(data):
    a = b = c = (0xDEADBEEF + len(data)) & LOW_32
    if not data:
        return c
    blocks = (len(data) - 1) // 12
    words = np.frombuffer(data.ljust(12 * (blocks + 1), b"\0"), dtype="<u4").tolist()
    for block in range(blocks):
        a, b, c = (x + y & LOW_32 for x, y in zip((a, b, c), words[3 * block : 3 * block + 3], strict=True))
        for by_a, by_b, by_c in ((4, 6, 8), (16, 19, 4)):
            a, c = (a - c & LOW_32) ^ rotate(c, by_a), c + b & LOW_32
            b, a = (b - a & LOW_32) ^ rotate(a, by_b), a + c & LOW_32
            c, b = (c - b & LOW_32) ^ rotate(b, by_c), b + a & LOW_32
    a, b, c = (x + y & LOW_32 for x, y in zip((a, b, c), words[3 * blocks :], strict=True))
    for by_1, by_2, by_3 in ((14, 11, 25), (16, 4, 14)):
        c = (c ^ b) - rotate(b, by_1) & LOW_32
        a = (a ^ c) - rotate(c, by_2) & LOW_32
        b = (b ^ a) - rotate(a, by_3) & LOW_32
    return (c ^ b) - rotate(b, 24) & LOW_32


def fold(total):
    return (total - 1) % 65535 + 1 if total else 0  # only a sum of nothing is 0


def fletcher32_twin(data):
    low = high = 0
    for word in np.frombuffer(data + b"\0" * (len(data) % 2), dtype=">u2").tolist():
        low, high = fold(low + word), fold(high + fold(low + word))
    return high << 16 | low


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
        (
            bytes.fromhex("894844460d0a1a0a03080800")
            + bytes(8)
            + b"\xff" * 8
            + bytes.fromhex("ee2c0000000000003000000000000000"),
            0x0AFDF5E8,
        ),
    ],
)
def test_lookup3_gives_the_published_vectors(data, checksum):
    assert lookup3(array(data)) == checksum
    assert lookup3_twin(data) == checksum


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"\x00\x01", 0x00010001),
        (b"\x01", 0x01000100),
        (b"\x00\x01\x00\x02", 0x00040003),
        (b"\xff\xff" * 500, 0xFFFFFFFF),
    ],
)
def test_fletcher32_gives_the_sums_one_can_do_by_hand(data, checksum):
    assert fletcher32(array(data), 0) == checksum
    assert fletcher32_twin(data) == checksum


def test_kernels_agree_with_their_plain_twins_on_every_short_length_and_some_long_ones():
    chance = random.Random(7)
    for size in [*range(64), 719, 720, 721, 1440, 5001]:
        data = chance.randbytes(size)
        assert lookup3(array(data)) == lookup3_twin(data)
        assert fletcher32(array(data), 0) == fletcher32_twin(data)


def test_fletcher32_goes_on_from_an_even_part():
    data = random.Random(8).randbytes(3001)
    assert fletcher32(array(data[1000:]), fletcher32(array(data[:1000]), 0)) == fletcher32_twin(data)


def test_crc32c_agrees_with_its_plain_twin_by_the_instruction_and_by_tables():
    chance = random.Random(9)
    for size in [*range(40), 255, 1001]:
        data = chance.randbytes(size)
        assert crc32c(array(data), 0) == crc32c_twin(data)
        tail = data[size // 8 * 8 :]
        by_tables = 0xFFFFFFFF
        for at in range(0, size - len(tail), 8):
            by_tables = checksums._eight_by_tables(
                np.uint64(by_tables), np.uint64(int.from_bytes(data[at : at + 8], "little"))
            )
        assert crc32c(array(tail), int(by_tables) ^ 0xFFFFFFFF) == crc32c_twin(data)


def test_places_of_a_crc32c_are_found_at_their_step_only():
    data = bytearray(random.Random(10).randbytes(8192))
    wanted = random.Random(11).randbytes(100)
    for at in (0, 1024, 1600, 8192 - 100):
        data[at : at + 100] = wanted
    found = np.zeros(8, dtype=np.int64)
    for step, places in ((512, [0, 1024]), (4, [0, 1024, 1600, 8092])):
        count = find_crc32c(array(bytes(data)), 100, crc32c_twin(wanted), step, found)
        assert found[:count].tolist() == places
    assert find_crc32c(array(bytes(data)), 100, crc32c_twin(wanted), 4, found[:2]) == 2
    for size in (511, 512, 513, 777, 1024, 3001, 7168):
        for step in (8, 512):
            place = (8192 - size) // step * step
            count = find_crc32c(array(bytes(data)), size, crc32c_twin(bytes(data[place : place + size])), step, found)
            assert found[:count].tolist() == [place]
    assert find_crc32c(array(bytes(1000)), 2000, 0, 8, found) == 0
    assert find_crc32c(array(b""), 100, 0, 4, found) == 0


WITHOUT_A_PLACE = {"NUMBA_CACHE_DIR": "/proc/nowhere", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}


@pytest.mark.parametrize("place", [{"NUMBA_CACHE_DIR": "KEPT"}, WITHOUT_A_PLACE], ids=["kept", "nowhere"])
def test_the_command_line_tells_of_compiling_where_it_can_be_kept_and_where_not(tmp_path, place):
    program = (
        "from carver.cli.complaints import log_to_stderr\nlog_to_stderr(verbose=False)\n"
        "from signatures.kernels.checksums import lookup3, np\n"
        "print(hex(lookup3(np.frombuffer(b'Four score and seven years ago', dtype=np.uint8))))"
    )
    chosen = {name: value.replace("KEPT", str(tmp_path)) for name, value in place.items()}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | chosen, capture_output=True, text=True, check=True)
    assert done.stdout == "0x17770551\n"
    assert done.stderr.count("carver: compiling the checks") == 1
    assert done.stderr.count("carver: compiling the statistics") == 1
