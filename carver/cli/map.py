"""`carver map`: mapfiles shown, compared and changed, as by ddrescuelog; what is made goes to standard output."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from carver.cli import map_status, screen
from imaging import maptool
from imaging.errors import InputError, Interrupted, OutputError, UsageError
from imaging.extent import ExtentSet, span
from imaging.mapfile import MAX_OFFSET_BYTES, BlockStatus, Mapfile, parse_loose
from imaging.mapstore import HEADING, MapStore, journal_path, lock_exclusively
from imaging.ownership import give_to_caller

STANDARD = Path("-")  # standard input, or output
NO = 1  # differs, is not done: ddrescuelog's exit status, on which scripts rely
LINES_AT_ONCE = 1 << 16

Stop = Callable[[], bool]


def run(options: Namespace, stop: Stop) -> int:
    """Do the one operation that was chosen."""
    if len(options.maps) > 1 and not options.show_status:
        raise UsageError("give one mapfile; only --show-status takes more")
    others = (options.domain_mapfile, _other(options), STANDARD if options.create_mapfile is not None else None)
    inputs = [*others, *(options.maps if options.create_mapfile is None else [])]
    if inputs.count(STANDARD) > 1:
        raise UsageError("standard input can be read only once: name a file")
    name = next(name for name in OPERATIONS if getattr(options, name) is not None)
    return OPERATIONS[name](options, stop)


def _other(options: Namespace) -> Path | None:
    """Return the second map of an operation that has two."""
    named = (options.xor_mapfile, options.and_mapfile, options.or_mapfile)
    compared = (options.compare_mapfile, options.compare_as_domain)
    return next((path for path in (*named, *compared) if path is not None), None)


def _status(options: Namespace, stop: Stop) -> int:
    domain = _domain(options)
    for path in options.maps:
        mapfile = _load(path)
        here = domain & _extent(mapfile)
        if not here:
            screen.say(f"{path}: nothing to show, the domain is empty")
            continue
        shown = map_status.MapStatus(mapfile=mapfile, domain=here)
        if options.json:
            screen.put_json({"map": str(path), **map_status.as_json(shown)})
        else:
            name = str(path) if options.verbose else ""
            screen.put(map_status.render_text(shown, name=name, binary=options.binary_prefixes).removesuffix("\n"))
    return 0


def _list(options: Namespace, stop: Stop) -> int:
    statuses = [_type(character, "-l") for character in options.list_blocks]
    mapfile, domain, by_bytes = _load(options.maps[0]), _domain(options), _move(options)
    if options.format != "list":
        if options.json:
            raise UsageError("a bitmap is for machines already: leave --json out")
        bits = maptool.bitmap(
            mapfile,
            statuses,
            block_bytes=options.block_size,
            big_endian=options.format == "bitmap-be",
            domain=domain,
            by_bytes=by_bytes,
        )
        if not domain & _extent(mapfile):  # as by ddrescuelog
            bits = b""
        _write_out([bits])
        return 0
    numbers = maptool.listed_blocks(mapfile, statuses, block_bytes=options.block_size, domain=domain, by_bytes=by_bytes)
    if options.json:
        screen.put_json({"block_bytes": options.block_size, "blocks": list(numbers)})
    else:
        _write_out(_lines(numbers, stop))
    return 0


def _lines(numbers: Iterator[int], stop: Stop) -> Iterator[bytes]:
    while batch := list(islice(numbers, LINES_AT_ONCE)):
        if stop():
            raise Interrupted("stopped; the list is not complete")
        yield "".join(f"{number}\n" for number in batch).encode()


def _create(options: Namespace, stop: Stop) -> int:
    if len(options.create_mapfile) != 2:
        raise UsageError(f"-c{options.create_mapfile}: give two types, of the listed blocks and of the others")
    listed, others = (_type(character, "-c") for character in options.create_mapfile)
    domain = _domain(options)
    if not domain:
        screen.say("nothing to do, the domain is empty")
        return 0
    content = sys.stdin.buffer.read()
    is_list = options.format == "list"
    made = maptool.from_block_list(
        _numbers(content) if is_list else maptool.bitmap_blocks(content, big_endian=options.format == "bitmap-be"),
        size_bytes=int(domain.ends[-1]),
        block_bytes=options.block_size,
        listed=listed,
        others=others,
        domain=domain,
        by_bytes=_move(options),
    )
    if options.maps[0] == STANDARD:
        return _put_map(made, options)
    _write_new(options.maps[0], _text(made, options))
    if options.json:
        screen.put_json({"map": str(options.maps[0]), **_map_json(made)})
    return 0


def _numbers(content: bytes) -> Iterator[int]:
    """Yield the numbers of a block list: one after the other, decimal or 0x…, between white space.

    Raises:
        InputError: a word is no number.
    """
    for position, word in enumerate(content.split(), start=1):
        try:
            yield int(word, 16) if word[:2] == b"0x" else _decimal(word)
        except ValueError as fault:
            shown = word[:40].decode("latin-1")
            raise InputError(f"standard input, word {position}: {shown!r} is no block number") from fault


def _decimal(word: bytes) -> int:
    if not word.isdigit():
        raise ValueError("no digits")
    if len(word) > 1 and word[:1] == b"0":  # ddrescuelog would read it as octal, others as decimal
        raise ValueError("an octal number")
    return int(word)


def _complete(options: Namespace, stop: Stop) -> int:
    if len(options.complete_mapfile) != 1:
        raise UsageError(f"-C{options.complete_mapfile}: give one type")
    fill = _type(options.complete_mapfile, "-C")
    return _put_map(_load_loosely(options.maps[0], fill), options)


def _change(options: Namespace, stop: Stop) -> int:
    old, comma, new = options.change_types.partition(",")
    if not comma:
        raise UsageError(f"-a {options.change_types}: give the old types, a comma, and the new types")
    mapfile, domain = _load(options.maps[0]), _domain(options)
    return _put_changed(mapfile, maptool.change_types(mapfile, old, new, domain=domain), domain, options)


def _invert(options: Namespace, stop: Stop) -> int:
    mapfile, domain = _load(options.maps[0]), _domain(options)
    return _put_changed(mapfile, maptool.invert(mapfile, domain=domain), domain, options)


def _annotate(options: Namespace, stop: Stop) -> int:
    mapfile, domain = _load(options.maps[0]), _domain(options)
    if options.json:
        return _put_changed(mapfile, mapfile, domain, options)
    text = map_status.annotated(mapfile, domain, comments=_comments(options), binary=options.binary_prefixes)
    _write_out([text.encode(errors="surrogateescape")])
    return 0


def _combine(options: Namespace, stop: Stop) -> int:
    first, other = _load(options.maps[0]), _load(_other(options) or STANDARD)
    operation = maptool.or_finished
    if options.and_mapfile is not None:
        operation = maptool.and_finished
    elif options.xor_mapfile is not None:
        operation = maptool.xor_finished
    domain = _domain(options) & _extent(other)
    return _put_changed(first, operation(first, other, domain=domain), domain, options)


def _shift(options: Namespace, stop: Stop) -> int:
    by_bytes = _move(options)
    if options.input_position and options.output_position != 0:
        raise UsageError("--shift moves by -o minus -i, one of which must be 0 (-o is -i where it is not given)")
    mapfile, domain = _load(options.maps[0]), _domain(options)
    if not domain & _extent(mapfile):
        screen.say("nothing to do, the domain is empty")
        return 0
    return _put_map(maptool.shifted(mapfile, by_bytes, end_bytes=int(domain.ends[-1])), options)


def _compare(options: Namespace, stop: Stop) -> int:
    first, path = _load(options.maps[0]), _other(options) or STANDARD
    by_domain = options.compare_as_domain is not None
    other = _load_loosely(path) if by_domain and options.loose_domain else _load(path)
    domain = _domain(options)
    if not domain & _extent(first):
        return _answer(options, "same", holds=False, why="the domain is empty, so nothing was compared")
    same = (maptool.same_finished if by_domain else maptool.same_blocks)(first, other, domain=domain)
    return _answer(options, "same", holds=same, why=f"{options.maps[0]} and {path} differ")


def _done(options: Namespace, stop: Stop) -> int:
    holds, why = _is_done(_load(options.maps[0]), options)
    return _answer(options, "done", holds=holds, why=why)


def _delete(options: Namespace, stop: Stop) -> int:
    """Delete a map and its journal, unless someone is writing them."""
    if options.maps[0] == STANDARD:
        return _done(options, stop)
    path = options.maps[0].resolve()
    journal = journal_path(path)
    with lock_exclusively(journal) if journal.exists() else nullcontext():
        holds, why = _is_done(_load(path), options)
        if holds:
            try:
                path.unlink()
                journal.unlink(missing_ok=True)
            except OSError as fault:
                raise OutputError(f"cannot delete {path}: {os.strerror(fault.errno or 0)}") from fault
    return _answer(options, "deleted", holds=holds, why=why)


def _is_done(mapfile: Mapfile, options: Namespace) -> tuple[bool, str]:
    """Tell whether the domain is finished, and why not."""
    domain = _domain(options) & _extent(mapfile)
    if not domain:
        return False, "the domain is empty, so nothing was tested"
    unread_bytes = (mapfile.unread & domain).total_bytes
    return unread_bytes == 0, f"{options.maps[0]} is not done: {screen.human(unread_bytes)} are not finished"


def _answer(options: Namespace, question: str, *, holds: bool, why: str) -> int:
    if options.json:
        screen.put_json({question: holds})
    if not holds and not options.quiet:
        screen.say(why)
    return 0 if holds else NO


def _domain(options: Namespace) -> ExtentSet:
    """Return the bytes that the operation is restricted to; not cut to the map."""
    start = options.input_position
    end = MAX_OFFSET_BYTES if options.size is None else min(start + options.size, MAX_OFFSET_BYTES)
    domain = ExtentSet([span(start, end)])
    if options.domain_mapfile is None:
        return domain
    load = _load_loosely if options.loose_domain else _load
    return domain & load(options.domain_mapfile).extents(BlockStatus.FINISHED)


def _move(options: Namespace) -> int:
    """Return by how much -l, -c and --shift move positions."""
    return 0 if options.output_position is None else int(options.output_position) - int(options.input_position)


def _extent(mapfile: Mapfile) -> ExtentSet:
    return ExtentSet([span(mapfile.start_bytes, mapfile.end_bytes)])


def _type(character: str, option: str) -> BlockStatus:
    if character not in list(BlockStatus):
        raise UsageError(f"{option}: {character!r} is no block status; those are {' '.join(BlockStatus)}")
    return BlockStatus(character)


def _load(path: Path) -> Mapfile:
    """Read a map, with the journal of whoever is still writing it."""
    if path == STANDARD:
        return Mapfile.parse(sys.stdin.buffer.read().decode("latin-1"), name="standard input")
    return MapStore.read_snapshot(path.resolve())


def _load_loosely(path: Path, fill: BlockStatus = BlockStatus.NON_TRIED) -> Mapfile:
    """Read a map made by hand."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()
    except OSError as fault:
        raise InputError(f"cannot read the mapfile {path}: {os.strerror(fault.errno or 0)}") from fault
    return parse_loose(content.decode("latin-1"), fill, name="standard input" if path == STANDARD else str(path))


def _put_changed(before: Mapfile, after: Mapfile, domain: ExtentSet, options: Namespace) -> int:
    """Put the changed map out, also an unchanged one; but tell if there was nothing to change."""
    if not _extent(before) & domain and not options.quiet:
        screen.say("the domain is empty: the map stays as it is")
    return _put_map(after, options)


def _put_map(mapfile: Mapfile, options: Namespace) -> int:
    if options.json:
        screen.put_json(_map_json(mapfile))
    else:
        _write_out([_text(mapfile, options)])
    return 0


def _text(mapfile: Mapfile, options: Namespace) -> bytes:
    return mapfile.to_text(_comments(options)).encode(errors="surrogateescape")


def _comments(options: Namespace) -> tuple[str, str]:
    return HEADING, f"Command line: {options.command_line}"


def _map_json(mapfile: Mapfile) -> dict[str, object]:
    return {
        "position_bytes": mapfile.position_bytes,
        "current_status": mapfile.current_status,
        "current_pass": mapfile.current_pass,
        "blocks": [[extent.offset_bytes, extent.size_bytes, status.value] for extent, status in mapfile.blocks()],
    }


def _write_out(parts: Iterable[bytes]) -> None:
    """Write to standard output; a full disk there is told as such, not as a map that differs."""
    try:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as fault:
        raise _unwritten("standard output", fault) from fault


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet."""
    try:
        file = path.open("xb")
    except FileExistsError as fault:
        raise OutputError(f"{path} exists, and nothing is ever written over: give another name") from fault
    except OSError as fault:
        raise _unwritten(path, fault) from fault
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_to_caller(path)
    except OSError as fault:
        path.unlink(missing_ok=True)
        raise _unwritten(path, fault) from fault


def _unwritten(what: object, fault: OSError) -> OutputError:
    # no DestinationFullError, after which the command is run again: what came from standard input is gone
    return OutputError(f"cannot write {what}: {os.strerror(fault.errno or 0)}")


OPERATIONS: dict[str, Callable[[Namespace, Stop], int]] = {
    "show_status": _status,
    "list_blocks": _list,
    "create_mapfile": _create,
    "complete_mapfile": _complete,
    "change_types": _change,
    "invert_mapfile": _invert,
    "xor_mapfile": _combine,
    "and_mapfile": _combine,
    "or_mapfile": _combine,
    "annotate_mapfile": _annotate,
    "shift": _shift,
    "compare_mapfile": _compare,
    "compare_as_domain": _compare,
    "done_status": _done,
    "delete_if_done": _delete,
}
