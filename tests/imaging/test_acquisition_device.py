"""The acquisition of a real failing block device, with all that can be watched around it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fixtures.failing_drive import bad_zones, failing_drive, missing_for_failing_drive, write_contents
from imaging import acquisition
from imaging.acquisition import Tool, Wishes
from imaging.acquisition_record import load
from imaging.acquisition_text import as_text
from imaging.hash_log import log_path
from imaging.kernel_settings import WantedSettings
from imaging.read_back import verify
from imaging.reads import open_source
from imaging.rescue.engine import rescue
from imaging.rescue.options import RescueOptions
from tests.imaging.fake_smartctl import FakeSmartctl, ata

SIZE = 8 << 20


@pytest.mark.root
def test_a_failing_device_is_acquired_with_all_around_it(tmp_path, monkeypatch):
    reason = missing_for_failing_drive()
    if reason and os.environ.get("CARVER_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    FakeSmartctl(tmp_path, monkeypatch).answers(ata())
    contents, image, map_path = tmp_path / "contents", tmp_path / "d.img", tmp_path / "d.img.map"
    write_contents(contents, 7, SIZE)
    damage = bad_zones(2, SIZE, 3, zone_bytes=8192)
    wishes = Wishes(
        algorithms=("sha256", "md5"),
        settings=WantedSettings(readahead_kib=4, erc_deciseconds=(70, 70)),
        max_celsius=60,
        hook="true",
    )
    with failing_drive(tmp_path / "bench", contents, damage, sector_bytes=512) as drive:
        device = drive.device
        place = Path("/sys/block") / device.name / "queue" / "read_ahead_kb"
        before = place.read_text()
        options = RescueOptions()
        with (
            open_source(device) as source,
            acquisition.session(
                source, image, map_path, options, wishes, Tool(name="carver", version="0", command=("carver",))
            ) as session,
        ):
            assert place.read_text() == "4\n"
            summary = rescue(
                source,
                image,
                map_path,
                options,
                subscribers=session.subscribers,
                stop=session.stop,
                on_progress=session.watching(lambda progress: None),
                on_gone=session.before(None),
            )
            hashing = session.finish(summary)
        assert place.read_text() == before
    assert hashing is not None
    assert hashing.image is not None
    content = image.read_bytes()
    assert hashing.image.digests == {name: hashlib.new(name, content).hexdigest() for name in ("sha256", "md5")}
    record = load(session.record_path)
    assert record is not None
    assert record.result is not None
    assert [tuple(entry[:2]) for entry in record.result.unread_ranges] == list(damage.bad)
    (run,) = record.sessions
    assert run.outcome == "finished"
    assert run.kernel_changes == [f"readahead: {before.strip()} -> 4", "SCT ERC: 0,0 -> 70,70"]
    assert run.write_protection["kernel_read_only"] is True
    assert run.write_protection["in_use"] == []
    assert run.highest_celsius == 34
    assert record.drive["smart_serial"] == "ZFL0ABCD"
    assert "ZFL0ABCD" in as_text(record)
    assert verify(image, log_path(image, map_path)).clean
