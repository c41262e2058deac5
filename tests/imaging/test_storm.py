from imaging.extent import Extent, span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.rescue.storm import Storm, known_good


def sector(number: int) -> Extent:
    return Extent(offset_bytes=number * 512, size_bytes=512)


def looks(storm: Storm, failures: int) -> list[int]:
    """Return after which failures it was time to look, when each look goes well."""
    times = []
    for number in range(1, failures + 1):
        if storm.fail(sector(number), BlockStatus.NON_SCRAPED):
            storm.endure()
            times.append(number)
    return times


def test_the_wait_doubles_with_each_look_that_goes_well() -> None:
    assert looks(Storm(64), 1000) == [64, 192, 448, 960]


def test_a_success_begins_anew() -> None:
    storm = Storm(64)
    looks(storm, 200)
    storm.calm()
    assert looks(storm, 64) == [64]
    assert storm.take_back() == []


def test_zero_never_looks() -> None:
    assert looks(Storm(0), 10_000) == []


def test_what_a_storm_changed_is_taken_back_once_latest_first() -> None:
    storm = Storm(64)
    storm.fail(sector(1), BlockStatus.NON_TRIED)
    storm.fail(sector(2), BlockStatus.NON_SCRAPED)
    assert storm.take_back() == [(sector(2), BlockStatus.NON_SCRAPED), (sector(1), BlockStatus.NON_TRIED)]
    assert storm.take_back() == []


def test_known_good_sectors_are_whole_and_lie_on_both_sides() -> None:
    mapfile = Mapfile.covering(100 * 512)
    for start, end in ((100, 3 * 512 + 100), (10 * 512, 20 * 512), (40 * 512 + 1, 41 * 512), (50 * 512, 60 * 512)):
        mapfile.mark(span(start, end), BlockStatus.FINISHED)
    assert known_good(mapfile, 30 * 512, 512) == [sector(19), sector(1)]
    assert known_good(mapfile, 45 * 512, 512) == [sector(50), sector(1)]
    assert known_good(Mapfile.covering(512), 0, 512) == []
