import os

import pytest

from imaging.extent import Extent
from imaging.mapfile import BlockStatus
from imaging.pump import Piece
from imaging.zero_alarm import ALARM_BYTES, ZeroAlarm

CLUSTER = 65_536
BAD = Piece(extent=Extent(offset_bytes=0, size_bytes=512), status=BlockStatus.BAD_SECTOR)


def good(data: bytes) -> Piece:
    return Piece(extent=Extent(offset_bytes=512, size_bytes=len(data)), status=BlockStatus.FINISHED, data=data)


def alarm_of(*pieces: Piece) -> ZeroAlarm:
    alarm = ZeroAlarm()
    for piece in pieces:
        alarm(piece)
    return alarm


def test_zeros_of_a_healthy_drive_do_not_count() -> None:
    assert alarm_of(*[good(bytes(CLUSTER))] * 100).blank_bytes == 0


@pytest.mark.parametrize("data", [bytes(CLUSTER), b"\xff" * CLUSTER, os.urandom(512) * 128, bytes(512), bytes(700)])
def test_one_sector_over_and_over_after_an_error_counts(data: bytes) -> None:
    assert alarm_of(BAD, good(data), good(data)).blank_bytes == 2 * len(data)


def test_data_that_differs_ends_the_count() -> None:
    alarm = alarm_of(BAD, good(bytes(CLUSTER)), good(os.urandom(CLUSTER)), good(bytes(CLUSTER)))
    assert alarm.blank_bytes == CLUSTER


@pytest.mark.parametrize("place", [0, 511, 512, CLUSTER // 2, CLUSTER - 1])
def test_one_other_byte_is_data(place: int) -> None:
    data = bytearray(CLUSTER)
    data[place] = 1
    assert alarm_of(BAD, good(bytes(data))).blank_bytes == 0


def test_the_alarm_rings_from_a_mebibyte_on() -> None:
    pieces = [good(bytes(CLUSTER))] * (ALARM_BYTES // CLUSTER)
    assert not alarm_of(BAD, *pieces[1:]).ringing
    assert alarm_of(BAD, *pieces).ringing
