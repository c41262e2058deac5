import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from carver.report import as_domain
from carver.report.as_domain import REPORT, missing
from imaging.extent import ExtentSet, span
from imaging.mapfile import BlockStatus, Mapfile
from signatures.verdict import Grade
from tests.carver.recoveries import MIB, carved, example, runs

UNREAD = ((MIB, 1024, "-"), (3 * MIB, 512, "/"), (9 * MIB, 4096, "?"), (20 * MIB, 512, "-"))


def render(recovery):
    return "".join(as_domain.render(recovery))


def recovery_of(*files, unread=UNREAD):
    record = example()
    source = dataclasses.replace(record.source, size_bytes=32 * MIB, unread=unread)
    return dataclasses.replace(record, files=files, source=source)


def test_the_domain_is_what_was_never_read_of_files_that_are_not_whole():
    record = recovery_of(
        carved("damaged", Grade.DAMAGED, runs((0, 2 * MIB), (8 * MIB, MIB + 1024))),
        carved("whole", Grade.INTACT, runs((3 * MIB, MIB))),
        carved("cut", Grade.TRUNCATED, runs((20 * MIB, 100))),
    )
    wanted = [span(MIB, MIB + 1024), span(9 * MIB, 9 * MIB + 1024), span(20 * MIB, 20 * MIB + 100)]
    assert missing(record) == ExtentSet(wanted)
    mapfile = Mapfile.parse(render(record))
    assert mapfile.extents(BlockStatus.FINISHED) == ExtentSet(wanted)
    assert (mapfile.start_bytes, mapfile.end_bytes) == (0, 32 * MIB)
    assert {status for _, status in mapfile.blocks()} == {BlockStatus.FINISHED, BlockStatus.NON_TRIED}


@pytest.mark.parametrize("unread", [None, ()])
def test_nothing_is_missing_where_all_was_read_or_nobody_knows(unread):
    record = recovery_of(carved("damaged", Grade.DAMAGED, runs((0, MIB))), unread=unread)
    assert not missing(record)
    assert not Mapfile.parse(render(record)).extents(BlockStatus.FINISHED)


def test_it_is_a_report_of_its_own():
    assert REPORT.file_name == "missing.map"


@pytest.mark.skipif(
    shutil.which("ddrescuelog") is None, reason="GNU ddrescuelog is missing (apt-get install gddrescue)"
)
def test_gnu_ddrescue_takes_it_as_a_domain(tmp_path: Path):
    record = recovery_of(carved("damaged", Grade.DAMAGED, runs((0, 2 * MIB))))
    domain, drive, image = tmp_path / "missing.map", tmp_path / "drive", tmp_path / "image"
    domain.write_text(render(record))
    drive.write_bytes(bytes(range(256)) * (32 * MIB // 256))
    subprocess.run(["ddrescue", "-q", "-m", domain, drive, image, tmp_path / "map"], check=True, timeout=60)
    read = Mapfile.load(tmp_path / "map").extents(BlockStatus.FINISHED)
    assert read == missing(record)
