"""Pickles read as opcodes by an inert machine: it builds tuples, lists and `Node`s, imports nothing and calls nothing.

Opcode count, memo, stack and nesting are bounded; a pickle that breaks gives what was built up to the break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from signatures._pickle_globals import Global, is_allowed, may_become_allowed
from signatures._pickle_opcodes import MAX_PICKLE_BYTES, OverlongError, opcodes

MAX_GLOBALS = 1000
MAX_ARGUMENTS = 8  # of a call that makes a dict, which takes one


class Mark:
    """Where a MARK was pushed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Persistent:
    """A persistent id: in torch files a storage."""

    pid: Any


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """Anything that a pickle builds: a dict, a list, a set, or the inert record of a call.

    Attributes:
        kind: "dict", "list", "set", or "call".
        head: what would be called (a `Global`, or anything else), for calls.
        args: its arguments.
        pairs: what SETITEMS put in.
        items: what APPENDS and ADDITEMS put in.
        state: what BUILD gave.
    """

    kind: str
    head: Any = None
    args: tuple[Any, ...] = ()
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickle:
    """What one pickle holds.

    Attributes:
        value: the object on top of the stack at its end (None when there is none).
        complete: STOP was reached without a break.
        size_bytes: how far it was read.
        globals_seen: the names it would import, the first ones.
        unsafe: those outside the allow-list, in order, as "module.name".
        overlong: there is more of it than is read.
    """

    value: Any
    complete: bool
    size_bytes: int
    globals_seen: tuple[str, ...]
    unsafe: tuple[str, ...]
    overlong: bool = False


def read_pickle(raw: bytes) -> Pickle:
    """Run the opcodes of one pickle on an inert stack. Never imports, never calls; bounded; never raises."""
    machine = _Machine()
    size_bytes = at_bytes = frame_end = 0
    broken = overlong = False
    try:
        for name, argument, end_bytes in opcodes(raw[:MAX_PICKLE_BYTES]):
            if at_bytes < frame_end and (frame_end < end_bytes or name == "FRAME"):
                machine.name(None, None)  # frames that cut an opcode, or one another: the loader in C reads other names
                broken = True
            at_bytes = end_bytes
            if name == "FRAME":
                frame_end = end_bytes + argument
            if broken:
                machine.note_import(name, argument)
                continue
            size_bytes = end_bytes
            if name == "STOP":
                machine.complete = True
                break
            try:
                machine.step(name, argument)
            except (ValueError, IndexError, KeyError):
                broken = True  # for us; a loader might go on
                machine.note_import(name, argument)
    except OverlongError:
        overlong = True
        machine.name(None, None)  # what the rest imports, nobody knows
    except (ValueError, IndexError, KeyError):
        machine.complete = False
        machine.note_cut_import(raw[at_bytes:MAX_PICKLE_BYTES])
    return Pickle(
        value=machine.top() if machine.complete else machine.bottom(),
        complete=machine.complete,
        size_bytes=size_bytes,
        globals_seen=tuple(machine.seen),
        unsafe=tuple(machine.unsafe),
        overlong=overlong,
    )


class _Machine:
    """The stack, the memo, and one method a group of opcodes."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.seen: dict[str, None] = {}
        self.unsafe: dict[str, None] = {}
        self.complete = False

    def top(self) -> Any:  # noqa: ANN401 - any value of the pickle
        """Return what STOP would give."""
        return next((v for v in reversed(self.stack) if not isinstance(v, Mark)), None)

    def bottom(self) -> Any:  # noqa: ANN401 - any value of the pickle
        """Return the lowest object of a broken pickle: the outermost container built so far."""
        return next((v for v in self.stack if not isinstance(v, Mark)), None)

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401 - a literal of any type
        """Do one opcode.

        Raises:
            IndexError: the stack is too short.
            KeyError: an unknown memo slot or opcode.
        """
        action = _ACTIONS.get(name)
        if action is not None:
            action(self, argument)
        elif name not in _IGNORED:
            self.stack.append(argument)  # every other opcode pushes its literal

    def note_import(self, name: str, argument: Any) -> None:  # noqa: ANN401 - a literal of any type
        """Note what an opcode behind a break would import, where its stack is not known any more."""
        if name in ("GLOBAL", "INST"):
            module, _, inner = str(argument).partition(" ")
            self.name(module, inner)
        elif name == "STACK_GLOBAL":
            self.name(None, None)
        elif name.startswith("EXT"):
            self.name("copyreg", f"extension-{argument}")

    def note_cut_import(self, rest: bytes) -> None:
        """Note what an opcode at the very end would import, of whose name the last line has no end."""
        lines = rest[1:].decode("utf-8", "replace").split("\n") if rest[:1] in (b"c", b"i") else [""]
        if any(lines) and not may_become_allowed(*lines[:2]):
            self.name(lines[0], lines[1] if len(lines) > 1 else "")

    def to_mark(self) -> list[Any]:
        """Pop down to the topmost mark and return what was above it."""
        for index in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[index], Mark):
                taken = self.stack[index + 1 :]
                del self.stack[index:]
                return taken
        raise IndexError("no mark")

    def name(self, module: object, name: object) -> Global:
        """Note a name that would be imported."""
        known = isinstance(module, str) and isinstance(name, str)
        found = Global(module, name) if known else Global("?", "?")  # type: ignore[arg-type]
        if len(self.seen) < MAX_GLOBALS:
            self.seen[str(found)] = None
        if not is_allowed(found) and len(self.unsafe) < MAX_GLOBALS:
            self.unsafe[str(found)] = None
        return found


def _global(machine: _Machine, argument: Any) -> None:  # noqa: ANN401
    module, _, name = str(argument).partition(" ")
    machine.stack.append(machine.name(module, name))


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.name(module, name))


def _inst(machine: _Machine, argument: Any) -> None:  # noqa: ANN401
    module, _, name = str(argument).partition(" ")
    args = tuple(machine.to_mark())
    machine.stack.append(Node("call", machine.name(module, name), args))


def _obj(machine: _Machine, _: object) -> None:
    taken = machine.to_mark()
    machine.stack.append(Node("call", taken[0], tuple(taken[1:])))


def _extension(machine: _Machine, argument: object) -> None:
    machine.stack.append(machine.name("copyreg", f"extension-{argument}"))


def _reduce(machine: _Machine, _: object) -> None:
    args, head = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(Node("call", head, args if isinstance(args, tuple) else (args,)))


def _newobj_ex(machine: _Machine, _: object) -> None:
    keywords, args, head = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.stack.append(Node("call", head, args if isinstance(args, tuple) else (args,), state=keywords))


def _build(machine: _Machine, _: object) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if isinstance(target, Node):
        target.state = state


def _set_items(machine: _Machine, _: object) -> None:
    flat = machine.to_mark()
    target = machine.stack[-1]
    if isinstance(target, Node):
        target.pairs.extend(zip(flat[::2], flat[1::2], strict=False))


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    if isinstance(machine.stack[-1], Node):
        machine.stack[-1].pairs.append((key, value))


def _append_items(machine: _Machine, _: object) -> None:
    taken = machine.to_mark()
    if isinstance(machine.stack[-1], Node):
        machine.stack[-1].items.extend(taken)


def _append(machine: _Machine, _: object) -> None:
    value = machine.stack.pop()
    if isinstance(machine.stack[-1], Node):
        machine.stack[-1].items.append(value)


def _dict(machine: _Machine, _: object) -> None:
    flat = machine.to_mark()
    machine.stack.append(Node("dict", pairs=list(zip(flat[::2], flat[1::2], strict=False))))


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def action(machine: _Machine, _: object) -> None:
        if count > len(machine.stack):
            raise IndexError("stack too short")
        taken = tuple(machine.stack[len(machine.stack) - count :])
        del machine.stack[len(machine.stack) - count :]
        machine.stack.append(taken)

    return action


def _put(machine: _Machine, argument: Any) -> None:  # noqa: ANN401
    machine.memo[int(argument)] = machine.stack[-1]


def _get(machine: _Machine, argument: Any) -> None:  # noqa: ANN401
    machine.stack.append(machine.memo[int(argument)])


def _memoize(machine: _Machine, _: object) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _persistent_text(machine: _Machine, argument: object) -> None:
    machine.stack.append(Persistent(argument))


def _persistent(machine: _Machine, _: object) -> None:
    machine.stack.append(Persistent(machine.stack.pop()))


def _pop(machine: _Machine, _: object) -> None:
    machine.stack.pop()


def _pop_mark(machine: _Machine, _: object) -> None:
    machine.to_mark()


def _dup(machine: _Machine, _: object) -> None:
    machine.stack.append(machine.stack[-1])


_IGNORED: Final = frozenset({"PROTO", "FRAME", "READONLY_BUFFER", "NEXT_BUFFER"})
_ACTIONS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _inst,
    "OBJ": _obj,
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": _build,
    "SETITEMS": _set_items,
    "SETITEM": _set_item,
    "APPENDS": _append_items,
    "APPEND": _append,
    "ADDITEMS": _append_items,
    "DICT": _dict,
    "EMPTY_DICT": lambda m, _: m.stack.append(Node("dict")),
    "EMPTY_LIST": lambda m, _: m.stack.append(Node("list")),
    "EMPTY_SET": lambda m, _: m.stack.append(Node("set")),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "LIST": lambda m, _: m.stack.append(Node("list", items=m.to_mark())),
    "FROZENSET": lambda m, _: m.stack.append(Node("set", items=m.to_mark())),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": lambda m, _: m.stack.append(Mark()),
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _dup,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "MEMOIZE": _memoize,
    "PERSID": _persistent_text,
    "BINPERSID": _persistent,
}


def each_pair(node: Node) -> Iterator[tuple[Any, Any]]:
    """Yield the (key, value) pairs of a dict-like node, those of an OrderedDict built from pairs included."""
    yield from node.pairs
    for argument in node.args[:MAX_ARGUMENTS]:
        if isinstance(argument, Node) and argument.kind == "list":
            for pair in argument.items:
                parts = pair.items if isinstance(pair, Node) and pair.kind == "list" else pair  # Python 2 has lists
                if isinstance(parts, tuple | list) and len(parts) == 2:
                    yield parts[0], parts[1]
