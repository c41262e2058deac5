"""What --on-trouble means for a drive that vanishes."""

from pathlib import Path

import pytest

from carver.cli.arguments import parse
from carver.cli.imaging_run import _wait_for_return
from imaging.source import RawImage


@pytest.mark.parametrize(
    ("words", "waits"),
    [([], False), (["--on-trouble", "true"], True), (["--wait-for-return", "1h"], True)],
)
def test_a_drive_is_waited_for_where_that_was_asked_or_a_command_may_bring_it_back(
    words: list[str], waits: bool, tmp_path: Path
) -> None:
    drive = tmp_path / "drive"
    drive.write_bytes(bytes(4096))
    options = parse(["image", *words, str(drive), str(tmp_path / "image")])
    with RawImage(drive) as source:
        assert (_wait_for_return(source, options) is not None) == waits
