"""Bus errors: a file cut short while it is mapped and scanned does not kill, and one of others' still does."""

import signal
import subprocess
import sys
from ast import literal_eval

import pytest

from carver.automaton import build
from carver.bus_errors import SLOTS, watch
from imaging.extent import ExtentSet, span
from tests.carver.scanning import MAGICS, a_format, oracle, planted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux only")

CUT_WHILE_SCANNED = """
import os, sys
from carver import chunks, scan
from carver.automaton import build
from imaging.source import RawImage
from tests.carver.scanning import MAGICS, a_format

path, keep_bytes, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
scan.PIECE_BYTES = 1 << 16
populate = chunks._populate

def cut_behind_the_populating(address, size_bytes):
    done = populate(address, size_bytes)
    os.truncate(path, keep_bytes)
    return done

chunks._populate = cut_behind_the_populating
with RawImage(path) as image:
    for chunk in scan.scan(image, [a_format(magics=MAGICS)], threads=threads, chunk_bytes=1 << 18):
        print([tuple(hit) for hit in chunk.hits.tolist()], [(e.offset_bytes, e.end_bytes) for e in chunk.unread])
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_cut_short_behind_the_scans_back_gives_what_is_left_and_the_rest_as_unread(tmp_path, threads):
    path, size, keep = tmp_path / "i", 1 << 20, 300_001
    data = planted(size, range(500, size, 9973))
    path.write_bytes(data)
    command = [sys.executable, "-c", CUT_WHILE_SCANNED, str(path), str(keep), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [literal_eval(line.replace("] [", "], [")) for line in done.stdout.splitlines()]
    unread = ExtentSet(span(*extent) for _, extents in told for extent in extents)
    assert unread.covers(span(keep, size))
    assert unread.total_bytes <= size - keep
    expected = oracle(data, build([a_format(magics=MAGICS)]).table, unread)
    assert sorted(hit for hits, _ in told for hit in hits) == expected != []


OTHERS = """
import mmap, os, sys
from carver.bus_errors import watch
with open(sys.argv[1], "r+b") as file:
    ours, other = (mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ) for _ in range(2))
    import numpy as np
    watched = watch(np.frombuffer(ours, np.uint8).ctypes.data, 8192)
    assert not watched.torn
    os.truncate(sys.argv[1], 0)
    assert ours[5000] == 0 and watched.torn
    watched.close()
    print("alive", flush=True)
    other[0]
"""


def test_a_bus_error_elsewhere_still_ends_the_process(tmp_path):
    path = tmp_path / "i"
    path.write_bytes(b"x" * 8192)
    done = subprocess.run([sys.executable, "-c", OTHERS, str(path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("alive\n", -signal.SIGBUS)


def test_more_windows_than_can_be_watched_are_refused():
    watched = [watch(1 << 12, 1 << 12) for _ in range(SLOTS + 1)]
    assert watched[-1] is None
    assert None not in watched[:-1]
    for one in watched[:-1]:
        one.close()
    again = watch(1 << 12, 1 << 12)
    assert again is not None
    again.close()
