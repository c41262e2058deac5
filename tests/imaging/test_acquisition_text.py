"""The acquisition record for people: what a lab signs."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from imaging.acquisition_record import NO_BLOCKER, AcquisitionRecord, Result, Session, load, save
from imaging.acquisition_text import SHOWN_RANGES, as_text, rows
from imaging.health import parse_health
from tests.imaging.fake_smartctl import ata, attribute, nvme, refusing_bridge

DIGEST = "ab" * 32


def session(**changes) -> Session:
    return Session(
        **{
            "started": "2026-11-22T18:00:00+00:00",
            "ended": "2026-11-22T19:00:00+00:00",
            "outcome": "finished",
            "tool": "carver",
            "version": "0.1.0",
            "command": ("carver", "image", "/dev/sdb", "my d.img"),
            "host": "bench",
            "system": "Linux",
            "user": "lab",
            "source": "/dev/sdb",
            "write_protection": {"kernel_read_only": True, "in_use": [], "statement": NO_BLOCKER},
            "reads": 12,
            "read_errors": 3,
            "rescued_bytes": 4096,
            "seconds": 1.5,
            **changes,
        }
    )


def result(**changes) -> Result:
    return Result(
        **{
            "at": "2026-11-22T19:00:00+00:00",
            "finished": True,
            "image_bytes": 8192,
            "rescued_bytes": 7680,
            "unread_bytes": 512,
            "unread_ranges": ((4096, 512, "-"),),
            "unread_range_count": 1,
            "fill": "zeros",
            "map_sha256": DIGEST,
            "digests": {"sha256": DIGEST, "md5": "cd" * 16},
            "hashes": {"pieces": 2, "from_drive": 1, "differing": [], "fault": ""},
            **changes,
        }
    )


def record(**changes) -> AcquisitionRecord:
    drive = {
        "path": "/dev/sdb",
        "model": "Bridge",
        "serial": "0001",
        "smart_serial": "ZFL0ABCD",
        "size_bytes": 8192,
        "logical_sector_bytes": 512,
        "discard": False,
        "hidden_areas": {"note": "the drive has neither HPA nor DCO"},
    }
    image = {"path": "d.img", "map": "d.img.map", "format": "raw", "segments": 1, "shift_bytes": 0}
    case = {"case": "2026-17", "evidence": "E1", "examiner": "A. Name"}
    return AcquisitionRecord(
        **{"case": case, "drive": drive, "image": image, "sessions": (session(),), "result": result(), **changes}
    )


def values(record: AcquisitionRecord, label: str) -> list[str]:
    return [value for _, each, value in rows(record) if each == label]


def test_a_lab_finds_all_that_it_expects():
    found = record()
    expected = {
        "Case": "2026-17",
        "Evidence": "E1",
        "Examiner": "A. Name",
        "Model": "Bridge",
        "Serial number": "0001",
        "Serial number by SMART": "ZFL0ABCD",
        "Firmware": "not told",
        "Capacity": "8192 bytes",
        "HPA, DCO": "the drive has neither HPA nor DCO",
        "TRIM": "no",
        "Format": "raw, 1 segment",
        "Started (UTC)": "2026-11-22T18:00:00+00:00",
        "Tool": "carver 0.1.0",
        "Command": "carver image /dev/sdb 'my d.img'",
        "Host, system, user": "bench, Linux, lab",
        "Reads, failed reads": "12, 3",
        "Retry passes": "0",
        "Not read": "512 bytes, 1 range",
        "Not read at": "0x1000+0x200 (bad sector)",
        "Fill of what is not read": "zeros",
        "Map, SHA-256": DIGEST,
        "Image, SHA-256": DIGEST,
        "Image, MD5": "cd" * 16,
        "Hashed in pieces": "2, of these 1 as they came from the drive",
    }
    assert {label: values(found, label) for label in expected} == {label: [value] for label, value in expected.items()}


def test_the_text_has_its_sections_in_order_a_place_to_sign_and_an_end():
    text = as_text(record())
    headings = ["ACQUISITION RECORD", "\nCase\n", "\nDrive\n", "\nImage\n", "\nSession 1\n", "\nResult\n", "\nSigned\n"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "Signature:" in text
    assert text.endswith("End of the acquisition record\n")


@pytest.mark.parametrize(("flag", "words"), [(True, "(BLKROGET): on"), (False, "(BLKROGET): off"), (None, "not told")])
def test_write_protection_is_told_as_it_was(flag, words):
    protection = {
        "kernel_read_only": flag,
        "in_use": ["/dev/sdb1 is mounted at /mnt (read-only)"],
        "statement": NO_BLOCKER,
    }
    (line,) = values(record(sessions=(session(write_protection=protection),)), "Write protection")
    assert words in line
    assert "mounted at /mnt" in line
    assert "no hardware write blocker" in line


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (ata(), "passed; reallocated sectors 0; "),
        (ata(smart_status={"passed": False}), "FAILED; "),
        (
            ata(ata_smart_attributes={"table": [attribute(197, 1)]}),
            "risk high (sectors pending reallocation (attribute 197): 1",
        ),
        (nvme(media_errors=2), "media errors 2; percentage used 3 %; temperature 41 °C; risk high (media errors: 2; "),
        (refusing_bridge(), "not told (/dev/sdc: Unknown USB bridge"),
    ],
)
def test_smart_is_one_line_also_after_a_way_through_json(tmp_path, document, words):
    told = record(sessions=(session(health_before=asdict(parse_health(document))),))
    save(tmp_path / "record", told)
    loaded = load(tmp_path / "record")
    assert words in values(told, "SMART before")[0]
    assert values(loaded, "SMART before") == values(told, "SMART before")
    assert values(told, "SMART after") == ["not asked"]
    assert as_text(loaded) == as_text(told)


def test_what_happened_on_the_way_is_listed():
    told = session(
        events=("the drive has not answered for 130 s: running cycle", "the hook ended well"),
        kernel_changes=("command timeout: 30 -> 180",),
        options={"no_scrape": True},
        hung=((4096, 512),),
        highest_celsius=61,
        blank_after_errors_bytes=2048,
    )
    found = record(sessions=(told,))
    assert values(found, "Event") == list(told.events)
    assert values(found, "Changed for this run") == ["command timeout: 30 -> 180"]
    assert values(found, "Option") == ["no_scrape = True"]
    assert values(found, "Reads that hung") == ["1, the first at 0x1000"]
    assert values(found, "Highest temperature") == ["61 °C"]
    assert values(found, "Suspect") == ["2048 bytes of one repeated sector right after errors"]


def test_sessions_are_numbered():
    sections = [section for section, *_ in rows(record(sessions=(session(), session(outcome="stopped"))))]
    assert "Session 1" in sections
    assert "Session 2" in sections


def test_a_long_list_of_unread_ranges_ends_with_their_number():
    many = tuple((index * 1024, 512, "/") for index in range(SHOWN_RANGES + 5))
    listed = values(record(result=result(unread_ranges=many, unread_range_count=1000)), "Not read at")
    assert len(listed) == SHOWN_RANGES + 1
    assert listed[0] == "0x0+0x200 (not scraped)"
    assert listed[-1] == f"and {1000 - SHOWN_RANGES} more ranges; the map has them all"


def test_an_image_without_a_hash_and_hashing_that_failed_are_told():
    hashes = {"pieces": 1, "from_drive": 0, "differing": [[4096, 4096]], "fault": "no room"}
    found = record(result=result(digests={}, hashes=hashes))
    assert values(found, "Image, hash") == ["not computed"]
    assert values(found, "DIFFERS")[0].startswith("0x1000+0x1000 is not as it was hashed")
    assert values(found, "Hashing failed") == ["no room"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the image is as it was hashed (2 pieces compared); SHA-256 abab"),
        ({"finished": False, "digests": {}}, "not finished (2 pieces compared)"),
        ({"clean": False, "differing": [[0, 4096]]}, "THE IMAGE DIFFERS from what was hashed at 0x0+0x1000"),
        ({"clean": False, "image_agrees": False}, "THE IMAGE DIFFERS from its hash"),
        ({"clean": False, "unhashed_bytes": 512}, "512 bytes were never hashed"),
    ],
)
def test_a_verification_says_what_it_showed(changes, words):
    found = {
        "at": "2026-11-23T08:00:00+00:00",
        "finished": True,
        "checked_pieces": 2,
        "differing": [],
        "unhashed_bytes": 0,
        "digests": {"sha256": DIGEST},
        "image_agrees": True,
        "clean": True,
        **changes,
    }
    assert words in values(record(verifications=(found,)), "2026-11-23T08:00:00+00:00")[0]


def test_a_serial_number_cannot_forge_lines_or_move_the_cursor():
    drive = {**record().drive, "serial": "Z1\nSignature: ok\x1b[2J\u202e"}
    text = as_text(record(drive=drive))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\nSignature:") == 1


def test_long_values_are_wrapped_and_digests_stay_whole():
    text = as_text(record())
    assert max(map(len, text.splitlines())) <= 112
    assert f"Image, SHA-256:            {DIGEST}\n" in text
    assert " ".join(NO_BLOCKER.split()) in " ".join(text.split())


def test_an_empty_record_has_its_text_too():
    assert "Case:" in as_text(AcquisitionRecord())
