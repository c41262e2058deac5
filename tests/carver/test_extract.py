import errno
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carver import extract as extract_room
from carver.extract import PATCH_BYTES, Written, name_all, write_partial
from imaging.errors import DestinationFullError, Interrupted, OutputError
from imaging.extent import Extent, ExtentSet, Layout, span
from imaging.source import RawImage
from tests.carver.scanning import FaultyImage

CONTENT = random.Random(3).randbytes(100_000)


def image_of(folder: Path, content: bytes = CONTENT) -> RawImage:
    path = folder / "image.raw"
    path.write_bytes(content)
    return RawImage(path)


def names(folder: Path) -> Iterator[Path]:
    yield folder / "model.h5"
    for number in count(2):
        yield folder / f"model-{number}.h5"


@dataclass(frozen=True)
class Extracted:
    written: Written
    path: Path


def extracted(image: RawImage, layout: Layout, folder: Path, **options: object) -> Extracted:
    folder.mkdir(exist_ok=True)
    written = write_partial(image, layout, folder / "file.partial", **options)  # type: ignore[arg-type]
    (path,) = name_all([(written, names(folder))])
    return Extracted(written, path)


def content_of(layout: Layout) -> bytes:
    return b"".join(CONTENT[extent.offset_bytes : extent.end_bytes] for extent in layout)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_room, "CHUNK_BYTES", 10_000)


@pytest.mark.parametrize("with_md5", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        (span(0, 100_000),),
        (span(512, 513),),
        (),
        (span(50_000, 80_000), span(0, 12_345), span(99_999, 100_000)),
    ],
)
def test_a_file_has_the_bytes_of_its_layout_and_their_hashes(
    tmp_path: Path, layout: Layout, with_md5: bool, small_chunks: None
) -> None:
    written = extracted(image_of(tmp_path), layout, tmp_path / "out", with_md5=with_md5)
    wanted = content_of(layout)
    assert written.path.read_bytes() == wanted
    assert written.written.size_bytes == len(wanted)
    assert written.written.sha256 == hashlib.sha256(wanted).hexdigest()
    assert written.written.md5 == (hashlib.md5(wanted).hexdigest() if with_md5 else None)
    assert not written.written.unreadable
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "model.h5"]


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 10_000)), max_size=6))
def test_any_layout_is_written_in_its_order(pairs: list[tuple[int, int]]) -> None:
    import tempfile

    layout = tuple(Extent(offset_bytes=offset, size_bytes=size) for offset, size in pairs)
    with tempfile.TemporaryDirectory() as folder, image_of(Path(folder)) as image:
        assert extracted(image, layout, Path(folder) / "out").path.read_bytes() == content_of(layout)


def test_the_plain_write_is_used_where_the_kernel_cannot_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(extract_room.os, "copy_file_range", cannot, raising=False)
    written = extracted(image_of(tmp_path), (span(5, 77_777),), tmp_path / "out")
    assert written.path.read_bytes() == CONTENT[5:77_777]


def test_a_name_that_is_taken_is_passed_over_and_what_is_there_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.h5").write_bytes(b"somebody's")
    (out / "model-2.h5").write_bytes(b"else's")
    written = extracted(image_of(tmp_path), (span(0, 5000),), out)
    assert written.path.name == "model-3.h5"
    assert (out / "model.h5").read_bytes() == b"somebody's"
    assert (out / "model-2.h5").read_bytes() == b"else's"


def test_what_an_interrupted_run_left_is_adopted(tmp_path: Path) -> None:
    first = extracted(image_of(tmp_path), (span(0, 5000),), tmp_path / "out")
    before = first.path.stat()
    assert extracted(image_of(tmp_path), (span(0, 5000),), tmp_path / "out") == first
    assert (first.path.stat().st_ino, first.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list((tmp_path / "out").iterdir()) == [first.path]


def test_a_kill_between_naming_and_tidying_does_not_let_the_next_file_write_over_it(tmp_path: Path) -> None:
    """Then the partial name and the final one are one file; another content under that name must not reach it."""
    out = tmp_path / "out"
    first = extracted(image_of(tmp_path), (span(0, 5000),), out)
    os.link(first.path, out / "file.partial")
    second = extracted(image_of(tmp_path), (span(5000, 9000),), out)
    assert first.path.read_bytes() == CONTENT[:5000]
    assert second.path.read_bytes() == CONTENT[5000:9000]
    assert sorted(path.name for path in out.iterdir()) == ["model-2.h5", "model.h5"]


def test_a_torn_partial_file_is_begun_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "file.partial").write_bytes(b"torn" * 9000)
    assert extracted(image_of(tmp_path), (span(0, 5000),), out).path.read_bytes() == CONTENT[:5000]


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    for name in ("file.partial", "model.h5"):
        (out / name).symlink_to(tmp_path / "precious")
    (out / "model-2.h5").symlink_to(tmp_path / "nowhere")
    os.mkfifo(out / "model-3.h5")
    assert extracted(image_of(tmp_path), (span(0, 5000),), out).path.name == "model-4.h5"
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_file_system_without_hard_links_gets_its_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(extract_room.os, "link", no_links)
    first = extracted(image_of(tmp_path), (span(0, 5000),), tmp_path / "out")
    second = extracted(image_of(tmp_path), (span(5000, 9000),), tmp_path / "out")
    again = extracted(image_of(tmp_path), (span(0, 5000),), tmp_path / "out")
    assert first.path.read_bytes() == CONTENT[:5000]
    assert second.path.read_bytes() == CONTENT[5000:9000]
    assert again.path == first.path


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, small_chunks: None
) -> None:
    real, calls = getattr(os, call), count()

    def fills(*arguments: object) -> object:
        if next(calls) >= (2 if call == "pwrite" else 0):
            raise OSError(errno.ENOSPC, "full")
        return real(*arguments)

    def cannot(*arguments: object) -> int:
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(extract_room.os, "copy_file_range", cannot, raising=False)
    monkeypatch.setattr(extract_room.os, call, fills)
    with pytest.raises(DestinationFullError, match="free some space"):
        extracted(image_of(tmp_path), (span(0, 50_000),), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_gone_is_told_as_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_partial(image_of(tmp_path), (span(0, 5),), tmp_path / "gone" / "p")


def test_a_disk_that_turns_read_only_is_told_as_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(extract_room, "_put", refuses)
    unlink, looked = Path.unlink, count()
    monkeypatch.setattr(
        Path, "unlink", lambda path, missing_ok: refuses() if next(looked) else unlink(path, missing_ok=missing_ok)
    )
    with pytest.raises(OutputError, match="Read-only file system; mend that"):
        write_partial(image_of(tmp_path), (span(0, 5),), tmp_path / "p")


def test_stopping_leaves_nothing_behind(tmp_path: Path, small_chunks: None) -> None:
    asked = count()
    with pytest.raises(Interrupted):
        extracted(image_of(tmp_path), (span(0, 50_000),), tmp_path / "out", stop=lambda: next(asked) == 3)
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_is_told_in_bytes(tmp_path: Path, small_chunks: None) -> None:
    told: list[int] = []
    extracted(image_of(tmp_path), (span(0, 25_000),), tmp_path / "out", on_bytes=told.append)
    assert told == [10_000, 20_000, 25_000]


def test_an_image_that_cannot_be_read_somewhere_gives_zeros_in_place_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.raw"
    path.write_bytes(CONTENT)
    image = FaultyImage(path)
    monkeypatch.setattr(
        FaultyImage, "bad", staticmethod(lambda offset, size: offset < 30_700 and offset + size > 30_000)
    )
    layout = (span(60_000, 70_000), span(20_000, 50_000))
    written = extracted(image, layout, tmp_path / "out")
    first = 10_000 + 10_000 // PATCH_BYTES * PATCH_BYTES
    assert written.written.unreadable == ExtentSet((span(first, first + PATCH_BYTES),))
    wanted = bytearray(content_of(layout))
    wanted[first : first + PATCH_BYTES] = bytes(PATCH_BYTES)
    assert written.path.read_bytes() == wanted
    assert written.written.sha256 == hashlib.sha256(wanted).hexdigest()


def test_an_image_cut_short_under_us_gives_no_short_file(tmp_path: Path) -> None:
    image = image_of(tmp_path)
    os.truncate(tmp_path / "image.raw", 30_000)
    written = extracted(image, (span(20_000, 50_000), span(0, 500)), tmp_path / "out")
    assert written.path.read_bytes() == CONTENT[20_000:30_000] + bytes(20_000) + CONTENT[:500]
    assert written.written.unreadable == ExtentSet((span(10_000, 30_000),))


def test_many_files_are_made_durable_before_any_gets_its_name_and_the_names_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out, calls = image_of(tmp_path), tmp_path / "out", []
    out.mkdir()
    files = [write_partial(image, (span(n, n + 9),), out / f"file-{n}.partial") for n in range(3)]
    real_fsync, real_link = os.fsync, os.link
    monkeypatch.setattr(extract_room.os, "fsync", lambda fd: (calls.append("sync"), real_fsync(fd))[1])
    monkeypatch.setattr(extract_room.os, "link", lambda a, b: (calls.append("name"), real_link(a, b))[1])
    paths = list(name_all((file, iter([out / f"{n}.h5"])) for n, file in enumerate(files)))
    assert calls == ["sync"] * 3 + ["name"] * 3 + ["sync"]
    assert [path.read_bytes() for path in paths] == [CONTENT[n : n + 9] for n in range(3)]
