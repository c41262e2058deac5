"""`carver map` against ddrescuelog: the same bytes on standard output, and the same exit status, on random maps."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from carver.cli import map as map_command
from carver.cli.arguments import parse
from imaging.errors import CarverError
from imaging.extent import span
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import MapStore, journal_path
from tests.command import COMMAND, carver, good, need_program

quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
types = st.text("?*/-+", min_size=1, max_size=5)
numbers = st.integers(0, 4000)

FIRST = "0x1000 ? 2\n0 0x1000 +\n0x1000 0x200 -\n0x1200 0xe00 /\n0x2000 0x2000 *\n0x4000 0x100100 ?\n"
DONE = "0 + 1\n0 0x2000 +\n"
EMPTY = b"domain is empty"


@pytest.fixture
def ddrescuelog() -> None:
    need_program("ddrescuelog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program gave back."""

    code: int
    out: bytes
    err: bytes

    @property
    def map_body(self) -> bytes:
        """The map without its head, in which program, command line and time differ."""
        return self.out[self.out.index(b"# current_pos") :]


def theirs(folder: Path, *arguments: str, stdin: bytes = b"") -> Answer:
    done = subprocess.run(["ddrescuelog", *arguments], cwd=folder, input=stdin, capture_output=True, check=False)
    return Answer(code=done.returncode, out=done.stdout, err=done.stderr)


def ours(folder: Path, *arguments: str, stdin: bytes = b"") -> Answer:
    """Run `carver map` in this process, as its main() does."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    typed = mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    here = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err), typed:
            try:
                code = map_command.run(parse(["map", *arguments]), lambda: False)
            except CarverError as error:
                code = error.exit_code
                err.write(str(error))
            except SystemExit as end:
                code = int(end.code or 0)
            out.flush()
    finally:
        os.chdir(here)
    assert isinstance(out.buffer, io.BytesIO)
    return Answer(code=code, out=out.buffer.getvalue(), err=err.getvalue().encode())


@st.composite
def maps(draw: st.DrawFn, *, smallest_start: int = 700, sizes: st.SearchStrategy[int] | None = None) -> Mapfile:
    """Maps of a few blocks, some of which begin after 0."""
    at = draw(st.sampled_from([0, 0, 0, smallest_start]))
    blocks = []
    for size_bytes in draw(st.lists(st.integers(1, 900) if sizes is None else sizes, min_size=1, max_size=8)):
        blocks.append((span(at, at + size_bytes), draw(st.sampled_from(list(BlockStatus)))))
        at += size_bytes
    made = Mapfile(blocks)
    made.position_bytes, made.current_pass = draw(st.integers(0, at)), draw(st.integers(1, 9))
    made.current_status = draw(st.sampled_from("?*/-FG+"))
    return made


@st.composite
def domains(draw: st.DrawFn) -> list[str]:
    """Options that restrict an operation; the maps reach to about 3000 bytes."""
    chosen: list[str] = []
    if draw(st.booleans()):
        chosen += ["-i", str(draw(numbers))]
    if draw(st.booleans()):
        chosen += ["-s", draw(st.sampled_from(["0x200", "1s", "1Ki", str(draw(numbers))]))]
    if draw(st.booleans()):
        chosen += ["-m", "domain"]
    return chosen


def put(folder: Path, **named: Mapfile) -> None:
    for name, mapfile in named.items():
        (folder / name).write_text(mapfile.to_text())


@quickly
@given(first=maps(), domain=maps(), restricted=domains(), binary=st.booleans(), named=st.booleans())
def test_status_is_shown_as_by_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, first: Mapfile, domain: Mapfile, restricted: list[str], binary: bool, named: bool
) -> None:
    put(tmp_path, first=first, domain=domain)
    arguments = ["-t", *restricted, *["-B"] * binary, *["-v"] * named, "first", "domain"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert (given_back.code, given_back.out) == (0, expected.out)


@quickly
@given(first=maps(sizes=st.integers(1, 2**53)), binary=st.booleans())  # ddrescuelog's shares are coarser over 92 PB
def test_status_of_large_maps_is_shown_as_by_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, first: Mapfile, binary: bool
) -> None:
    put(tmp_path, first=first)
    arguments = ["--show-status", *["--binary-prefixes"] * binary, "first"]
    assert ours(tmp_path, *arguments).out == theirs(tmp_path, *arguments).out


@quickly
@given(first=maps(sizes=st.integers(1, 300000)), digits=st.integers(0, 6))
def test_shares_are_rounded_as_by_ddrescuelog(ddrescuelog: None, tmp_path: Path, first: Mapfile, digits: int) -> None:
    whole = 10**digits * max(1, first.end_bytes // 10**digits)  # so that many a share is exact
    put(tmp_path, first=first)
    arguments = ["-t", "-s", str(whole), "first"]
    assert ours(tmp_path, *arguments).out == theirs(tmp_path, *arguments).out


@quickly
@given(
    first=maps(), second=maps(), domain=maps(), restricted=domains(), operation=st.sampled_from("nxyza"), old=types,
    new=types,
)  # fmt: skip
def test_changed_maps_are_those_of_ddrescuelog(
    ddrescuelog: None,
    tmp_path: Path,
    first: Mapfile,
    second: Mapfile,
    domain: Mapfile,
    restricted: list[str],
    operation: str,
    old: str,
    new: str,
) -> None:
    put(tmp_path, first=first, second=second, domain=domain)
    value = {"n": [], "a": [f"{old},{new}"]}.get(operation, ["second"])
    arguments = [f"-{operation}", *value, *restricted, "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert given_back.code == expected.code == 0, given_back.err
    if EMPTY in expected.err:  # ddrescuelog puts out nothing; the map as it is serves a script better
        assert Mapfile.parse(given_back.out.decode()) == first
    else:
        assert given_back.map_body == expected.map_body


@quickly
@given(first=maps(), second=maps(), domain=maps(), restricted=domains(), kind=st.integers(0, 2))
def test_comparisons_and_the_done_test_end_as_by_ddrescuelog(
    ddrescuelog: None,
    tmp_path: Path,
    first: Mapfile,
    second: Mapfile,
    domain: Mapfile,
    restricted: list[str],
    kind: int,
) -> None:
    put(tmp_path, first=first, second=first if kind == 1 else second, domain=domain)
    if kind == 2:
        put(tmp_path, second=Mapfile([(e, s if s == "+" else BlockStatus.BAD_SECTOR) for e, s in first.blocks()]))
    for operation in (["-p", "second"], ["-P", "second"], ["-D"]):
        expected = theirs(tmp_path, *operation, *restricted, "first")
        given_back = ours(tmp_path, *operation, *restricted, "first")
        assert given_back.out == expected.out == b""
        assert given_back.code == (1 if EMPTY in expected.err else expected.code), given_back.err


@quickly
@given(
    first=maps(smallest_start=0), domain=maps(), restricted=domains(), by_bytes=st.integers(-3000, 3000)
)  # fmt: skip
def test_shifted_maps_are_those_of_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, first: Mapfile, domain: Mapfile, restricted: list[str], by_bytes: int
) -> None:
    put(tmp_path, first=first, domain=domain)
    if "-i" in restricted:
        restricted = restricted[2:]
    move = ["-i", str(max(0, -by_bytes)), "-o", str(max(0, by_bytes))]
    arguments = ["--shift", *move, *restricted, "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert given_back.code == expected.code == 0
    if EMPTY in expected.err:
        assert given_back.out == b""
    else:
        assert given_back.map_body == expected.map_body


@quickly
@given(
    first=maps(),
    domain=maps(),
    restricted=domains(),
    chosen=types,
    block_bytes=st.sampled_from([1, 7, 100, 512, 4096]),
    form=st.sampled_from(["list", "bitmap", "bitmap-be", "bitmap-le"]),
    to_bytes=st.none() | st.integers(0, 20),
)
def test_block_lists_and_bitmaps_are_those_of_ddrescuelog(
    ddrescuelog: None,
    tmp_path: Path,
    first: Mapfile,
    domain: Mapfile,
    restricted: list[str],
    chosen: str,
    block_bytes: int,
    form: str,
    to_bytes: int | None,
) -> None:
    if form != "list" and to_bytes is not None and "-i" in restricted:
        # moved towards the start, the bitmap of ddrescuelog 1.27 lacks the first block that its own list has
        assume(int(restricted[restricted.index("-i") + 1]) <= to_bytes * block_bytes)
    put(tmp_path, first=first, domain=domain)
    moved = [] if to_bytes is None else ["-o", str(to_bytes * block_bytes)]
    arguments = [f"-l{chosen}", "-F", form, "-b", str(block_bytes), *restricted, *moved, "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert (given_back.code != 0, given_back.out) == (expected.code != 0, expected.out), given_back.err


@quickly
@given(
    listed=st.lists(st.integers(0, 30), max_size=12),
    bits=st.none() | st.binary(max_size=8),
    big_endian=st.booleans(),
    domain=maps(),
    restricted=domains(),
    block_bytes=st.sampled_from([1, 100, 512]),
    to_bytes=st.none() | st.integers(0, 20),
    chosen=st.none() | st.permutations("?*/-+"),
)
def test_maps_made_of_a_list_or_bitmap_are_those_of_ddrescuelog(
    ddrescuelog: None,
    tmp_path: Path,
    listed: list[int],
    bits: bytes | None,
    big_endian: bool,
    domain: Mapfile,
    restricted: list[str],
    block_bytes: int,
    to_bytes: int | None,
    chosen: list[str] | None,
) -> None:
    put(tmp_path, domain=domain)
    form = "list" if bits is None else "bitmap-be" if big_endian else "bitmap"
    moved = [] if to_bytes is None else ["-o", str(to_bytes * block_bytes)]
    made_of = "-c" if chosen is None else f"-c{chosen[0]}{chosen[1]}"
    arguments = [made_of, "-F", form, "-b", str(block_bytes), *restricted, *moved, "-"]
    stdin = "".join(f"{number}\n" for number in listed).encode() if bits is None else bits
    given_back = ours(tmp_path, *arguments, stdin=stdin)
    if bits is not None and restricted:
        # of a run of bits over the domain's border ddrescuelog drops those inside, too; of the same list it does not
        step = 1 if big_endian else -1
        ones = [
            8 * at + bit for at, byte in enumerate(bits) for bit, one in enumerate(f"{byte:08b}"[::step]) if one > "0"
        ]
        arguments[2], stdin = "list", "".join(f"{number}\n" for number in ones).encode()
    expected = theirs(tmp_path, *arguments, stdin=stdin)
    assert (given_back.code != 0) == (expected.code != 0), (given_back.err, expected.err)
    if EMPTY in expected.err or expected.code:
        assert given_back.out == b""
    else:
        assert given_back.map_body == expected.map_body


@quickly
@given(
    first=maps(sizes=st.integers(1, 900) | st.integers(1, 2**50)),
    domain=maps(),
    restricted=domains(),
    binary=st.booleans(),
)
def test_annotated_maps_are_those_of_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, first: Mapfile, domain: Mapfile, restricted: list[str], binary: bool
) -> None:
    put(tmp_path, first=first, domain=domain)
    arguments = ["-A", *["-B"] * binary, *restricted, "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert given_back.code == 0
    if EMPTY not in expected.err:
        assert given_back.map_body == expected.map_body
    assert Mapfile.parse(given_back.out.decode()) == first


def loose(draw_blocks: list[tuple[int, int, BlockStatus]]) -> str:
    return "7 / 2\n" + "".join(f"{at} {size_bytes} {status}\n" for at, size_bytes, status in draw_blocks)


@quickly
@given(
    blocks=st.lists(
        st.tuples(st.integers(0, 900), st.integers(1, 300), st.sampled_from("?*/-+")), min_size=1, max_size=6
    ),
    fill=st.none() | st.sampled_from("?*/-+"),
)
def test_completed_maps_are_those_of_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, blocks: list[tuple[int, int, BlockStatus]], fill: str | None
) -> None:
    (tmp_path / "first").write_text(loose(blocks))
    arguments = [f"-C{fill or ''}", "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    if expected.code:
        assert (given_back.code, given_back.out) == (3, b"")
    elif b"0x7FFFFFFFFFFF" not in expected.out:  # a last block of the type that fills is not run on to 2^63-1
        assert given_back.map_body == expected.map_body


@quickly
@given(
    first=maps(smallest_start=0),
    blocks=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 300), st.just("+")), min_size=1, max_size=6),
)
def test_domain_made_by_hand_is_read_as_by_ddrescuelog(
    ddrescuelog: None, tmp_path: Path, first: Mapfile, blocks: list[tuple[int, int, BlockStatus]]
) -> None:
    put(tmp_path, first=first)
    (tmp_path / "domain").write_text(loose(blocks))
    arguments = ["-D", "-L", "-m", "domain", "first"]
    expected, given_back = theirs(tmp_path, *arguments), ours(tmp_path, *arguments)
    assert given_back.code == (1 if EMPTY in expected.err else expected.code)


def test_domain_with_gaps_is_refused_unless_it_is_declared(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(DONE)
    (tmp_path / "gaps").write_text("0 ?\n0 512 +\n0x1000 0x1000 +\n")
    assert ours(tmp_path, "-D", "-m", "gaps", "first").code == 3
    assert ours(tmp_path, "-D", "-L", "-m", "gaps", "first").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["-l", "-/", "first"],
        ["-l", "-", "first"],
        ["--list-blocks", "-/", "first"],
        ["--list-blocks=-/", "first"],
        ["-l", "--", "first"],
        ["-l--", "first"],
        ["-b", "4096", "-i", "1s", "-o", "0", "-l*", "first"],
        ["-i", "8s", "-b", "4096", "-o0", "-l*", "first"],
    ],
)
def test_options_are_read_as_getopt_reads_them(ddrescuelog: None, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "first").write_text(FIRST)
    answer = ours(tmp_path, *arguments)
    assert answer.out
    assert answer.out == theirs(tmp_path, *arguments).out


def test_shift_cuts_at_the_end_of_the_domain_inside_the_map(ddrescuelog: None, tmp_path: Path) -> None:
    (tmp_path / "first").write_text("0 ?\n0 86 ?\n")
    (tmp_path / "domain").write_text("0 ?\n0 10 +\n10 80 -\n90 10 +\n")
    arguments = ["--shift", "-o", "13", "-m", "domain", "first"]
    assert ours(tmp_path, *arguments).map_body == theirs(tmp_path, *arguments).map_body


def test_blocks_of_a_bitmap_are_those_of_the_same_list_also_where_the_domain_has_holes(tmp_path: Path) -> None:
    (tmp_path / "domain").write_text("0 ?\n0 301 -\n301 200 +\n")
    made = ours(tmp_path, "-c", "-Fbitmap", "-b100", "-m", "domain", "-", stdin=b"\x18").map_body
    assert made == ours(tmp_path, "-c", "-b100", "-m", "domain", "-", stdin=b"3 4").map_body
    assert b"0x00000190  0x00000064  +" in made


def test_types_that_begin_with_a_dash_need_not_be_attached(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(FIRST)
    assert b"0x00000000  0x00002000  +" in ours(tmp_path, "-a", "-/,+", "first").out


def test_optional_types_are_taken_only_when_attached(tmp_path: Path) -> None:
    assert ours(tmp_path, "-c", "-s", "1024", "-b", "512", "made", stdin=b"1\n").code == 0
    assert [s.value for _, s in Mapfile.load(tmp_path / "made").blocks()] == ["-", "+"]
    assert ours(tmp_path, "-C", "-", stdin=b"0 ?\n512 512 +\n").map_body.endswith(
        b"0x00000000  0x00000200  ?\n0x00000200  0x00000200  +\n"
    )


def test_map_is_made_under_a_new_name_only(tmp_path: Path) -> None:
    (tmp_path / "made").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("made", "dangling"):
        for force in ([], ["-f"]):
            answer = ours(tmp_path, "-c", *force, "-s", "1024", name, stdin=b"1\n")
            assert answer.code == 4
            assert b"exists, and nothing is ever written over" in answer.err
    assert (tmp_path / "made").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_map_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    assert ours(tmp_path, "-c", "-s", "1024", "no-such-folder/made", stdin=b"1\n").code == 4


@pytest.mark.parametrize("word", [b"x", b"-4", b"3,4", b"010", b"0x", b"9" * 5000, "\u0663".encode()])
def test_word_that_is_no_block_number_is_named(tmp_path: Path, word: bytes) -> None:
    answer = ours(tmp_path, "-c", "-s", "1Mi", "-", stdin=b"1 2\n" + word)
    assert (answer.code, answer.out) == (3, b"")
    assert b"standard input, word 3" in answer.err


def test_block_numbers_beyond_any_drive_are_ignored(tmp_path: Path) -> None:
    answer = ours(tmp_path, "-c", "-s", "1024", "-", stdin=b"99999999999999999999999 0x1")
    assert answer.map_body.endswith(b"0x00000200  0x00000200  +\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["first"],
        ["-t", "-n", "first"],
        ["-n", "first", "first"],
        ["-n", "-m", "-", "-"],
        ["-c", "-m", "-", "made"],
        ["-p", "-", "-"],
        ["-lx", "first"],
        ["-a", "?+", "first"],
        ["-a", "?,x", "first"],
        ["-a", ",+", "first"],
        ["-c?", "made"],
        ["-c??", "made"],
        ["-cx+", "made"],
        ["-C?*", "first"],
        ["-Cx", "first"],
        ["-l", "-", "-i", "256", "-o", "0", "first"],
        ["-l-", "-o", "0x7fffffffffffffff", "-b", "1", "first"],
        ["-l-", "-i", "0x8000000000000000", "first"],
        ["-l-", "-i", "much", "first"],
        ["-l-", "-s", "9" * 5000, "first"],
        ["-l-", "-b", "0", "first"],
        ["-l-", "-F", "bitmap", "--json", "first"],
        ["--shift", "-i", "4096", "first"],
        ["--shift", "-i", "4096", "-o", "8192", "first"],
        ["-l"],
    ],
)
def test_wrong_command_is_a_usage_error_and_puts_out_nothing(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "first").write_text(FIRST)
    answer = ours(tmp_path, *arguments)
    assert (answer.code, answer.out) == (2, b"")
    assert not (tmp_path / "made").exists()


def test_missing_or_torn_map_is_an_input_error_and_never_the_answer_no(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(FIRST)
    (tmp_path / "torn").write_text("0 ?\n0 512 +\n1024 512 +\n")
    for name in ("nothing", "torn"):
        for operation in (["-D"], ["-d"], ["-p", "first"], ["-P", "first"]):
            assert ours(tmp_path, *operation, name).code == 3
        assert ours(tmp_path, "-p", name, "first").code == 3
    assert ours(tmp_path, "-C", "nothing").code == 3


@pytest.mark.parametrize("operation", [["-D"], ["-d"], ["-p", "first"], ["-P", "first"]])
def test_question_about_no_byte_at_all_is_answered_no(tmp_path: Path, operation: list[str]) -> None:
    (tmp_path / "first").write_text(DONE)
    answer = ours(tmp_path, *operation, "-i", "1Gi", "first")
    assert answer.code == 1
    assert b"the domain is empty" in answer.err
    assert (tmp_path / "first").exists()
    assert ours(tmp_path, "-q", *operation, "-i", "1Gi", "first").err == b""


def test_done_map_is_deleted_with_its_journal_and_another_is_kept(tmp_path: Path) -> None:
    (tmp_path / "done").write_text(DONE)
    (tmp_path / "done.journal").write_text("")
    (tmp_path / "first").write_text(FIRST)
    assert ours(tmp_path, "-d", "done").code == 0
    assert ours(tmp_path, "-d", "first").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert ours(tmp_path, "-d", "-s", "0x1000", "first").code == 0
    assert not list(tmp_path.iterdir())


def test_done_map_on_standard_input_is_only_told(tmp_path: Path) -> None:
    assert ours(tmp_path, "-d", "-", stdin=DONE.encode()).code == 0
    assert ours(tmp_path, "-d", "-", stdin=FIRST.encode()).code == 1


def test_map_that_is_being_written_is_read_with_its_journal_and_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "first"
    with MapStore.open(path, 8192) as store:
        store.record(span(0, 8192), BlockStatus.FINISHED)
        store.commit(lambda: None)
        assert b"?" in path.read_bytes().splitlines()[-1]
        (tmp_path / "link").symlink_to(path)
        for name in ("first", "link"):
            assert ours(tmp_path, "-D", name).code == 0
            answer = ours(tmp_path, "-d", name)
            assert answer.code == 3
            assert b"another carver is writing" in answer.err
    assert path.exists()
    assert ours(tmp_path, "-d", "first").code == 0
    assert not path.exists()
    assert not journal_path(path).exists()


def test_answers_for_machines(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(FIRST)
    (tmp_path / "done").write_text(DONE)

    def told(*arguments: str) -> object:
        return json.loads(ours(tmp_path, "--json", *arguments).out)

    assert told("-t", "-s", "0x2000", "first") == {
        "map": "first",
        "position_bytes": 4096,
        "current_status": "?",
        "current_pass": 2,
        "start_bytes": 0,
        "end_bytes": 0x104100,
        "areas": 5,
        "domain": {"size_bytes": 8192, "areas": 1, "start_bytes": 0, "end_bytes": 8192},
        "statuses": {
            "?": {"size_bytes": 0, "areas": 0},
            "+": {"size_bytes": 4096, "areas": 1},
            "*": {"size_bytes": 0, "areas": 0},
            "/": {"size_bytes": 3584, "areas": 1},
            "-": {"size_bytes": 512, "areas": 1},
        },
    }
    assert told("-l-/", "-b4096", "first") == {"block_bytes": 4096, "blocks": [1]}
    assert told("-n", "done") == {
        "position_bytes": 0,
        "current_status": "+",
        "current_pass": 1,
        "blocks": [[0, 8192, "-"]],
    }
    assert told("-D", "first") == {"done": False}
    assert told("-p", "first", "first") == {"same": True}
    assert told("-d", "done") == {"deleted": True}


def test_new_map_tells_how_it_was_made_on_comment_lines(tmp_path: Path) -> None:
    name = "a map\nof two lines"
    (tmp_path / name).write_text(DONE)
    head = ours(tmp_path, "-n", name).out.decode().splitlines()[:3]
    assert head == ["# Mapfile. Created by carver", "# Command line: carver map -n 'a map", "# of two lines'"]


def test_the_command_itself_ends_as_scripts_expect(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(FIRST)
    (tmp_path / "done").write_text(DONE)
    assert good("map", "-D", "done", cwd=tmp_path).err == ""
    unfinished = carver("map", "-D", "first", cwd=tmp_path)
    assert (unfinished.code, unfinished.out) == (1, "")
    assert "first is not done" in unfinished.err
    assert carver("map", "-p", "done", "nothing", cwd=tmp_path).code == 3
    assert "1 -p, -P: they differ; -D, -d: not done" in good("map", "--help").out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_behind_standard_output_is_no_map_that_differs(tmp_path: Path) -> None:
    (tmp_path / "first").write_text(FIRST)
    for arguments in (["-n", "first"], ["-l", "?", "first"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run([*COMMAND, "map", *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 4
        assert b"cannot write standard output" in done.stderr
