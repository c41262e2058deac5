"""PyTorch mobile module in its flatbuffer form (.ptl; its zip form is a PyTorch zip): no length, no checksum.

All values of the module, tensors and objects included, stand in one list and name each other by their places in it.
The names of tensors are those of the attributes on the way from the module's state. Its end is the largest end of all
that its root reaches, up to the alignment of the whole: 16 with storages, 8 without. Facts: PyTorch's
mobile_bytecode.fbs and flatbuffer_serializer.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures._flat_model import FlatModel
from signatures._flatbuffer import ROOT_ADDRESS, FlatBuffer, Table, read_root_table
from signatures._mobile_schema import (
    ATTRIBUTE_NAMES,
    ATTRIBUTES,
    BYTECODE_VERSION,
    DICT_VALUES,
    DTYPES,
    EXTRA_FILES,
    FILE_NAME,
    FUNCTION,
    FUNCTION_NAME,
    FUNCTION_OPERATORS,
    ITEMS,
    MAX_VALUE_KIND,
    METHODS,
    OBJECT,
    OBJECT_STATE,
    OBJECT_TYPE,
    OPERATOR_NAME,
    QUANTIZED,
    SCALAR_TYPE,
    SCALES,
    SCHEMA,
    SIZES,
    STATE,
    STORAGE_COUNT,
    STORAGE_INDEX,
    STORAGE_OFFSET,
    STORAGES,
    STRIDES,
    TENSOR,
    TYPE_NAME,
    TYPES,
    VALUE,
    VALUE_KIND,
    VALUES,
    ZERO_POINTS,
)
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict, rejected

MAGIC = b"PTMF"
FIRST_VERSION, LAST_VERSION = 9, 64  # earlier ones are zips; today's is 9
MAX_RANK = 64
MAX_NAMES = 64
MAX_DEPTH = 64  # of objects in objects
MAX_STEPS = 1_000_000
ALIGN_BYTES, ALIGN_WITHOUT_STORAGES_BYTES = 16, 8


class _Module(FlatModel):
    """What was read of one module."""

    def __init__(self, window: Window, root: Table, flat: FlatBuffer) -> None:
        super().__init__(window, root, flat)
        self.values = root.slots(VALUES)
        self.types = root.slots(TYPES)
        self.storages = [None if one is None else _place(one) for one in root.slots(STORAGES)]
        align = ALIGN_BYTES if self.storages else ALIGN_WITHOUT_STORAGES_BYTES
        self.end_bytes = -(-flat.end_bytes // align) * align
        self._check_counts()
        self.names = self._named()
        self.tensors = tuple(self._tensors())

    def functions(self) -> list[Table]:
        """Return the module's methods; what is named as one and is none is noted."""
        found = []
        for index in self.flat.items(self.root.vectors.get(METHODS), "<u4", limit=len(self.values)):
            function = self.value(index, FUNCTION)
            if function is None:
                self.note("value-index", self.root.offset_bytes, f"value {index} should be a method and is none")
            else:
                found.append(function)
        return found

    def _check_counts(self) -> None:
        told = self.root.number(STORAGE_COUNT, 4)
        if told != len(self.storages) and not self.flat.cut:
            self.note(
                "storage-count", self.root.offset_bytes, f"{told} storages are told, {len(self.storages)} are there"
            )
        for value in self.values:
            if value is not None and value.number(VALUE_KIND, 1) > MAX_VALUE_KIND:
                self.note("unknown-value", value.offset_bytes, f"a value is of kind {value.number(VALUE_KIND, 1)}")

    def value(self, index: int, kind: int) -> Table | None:
        """Return the table of a value of this kind; None where it is none."""
        value = self.values[index] if index < len(self.values) else None
        return value.one(VALUE) if value is not None and value.number(VALUE_KIND, 1) == kind else None

    def _named(self) -> dict[int, str]:
        """Return the names of values by their places: of tensors below the module's state, each once."""
        names: dict[int, str] = {}
        waiting = [(self.root.number(STATE, 4), "", 0)]
        met: set[int] = set()
        for _ in range(MAX_STEPS):
            if not waiting:
                break
            index, name, depth = waiting.pop()
            if self.value(index, TENSOR) is not None:
                names.setdefault(index, name)
            elif index not in met and depth < MAX_DEPTH:
                met.add(index)
                waiting += [
                    (inner, f"{name}.{part}" if name else part, depth + 1) for part, inner in self._inner(index)
                ]
        return names

    def _inner(self, index: int) -> Iterator[tuple[str, int]]:
        """Yield what an object, list, tuple or dictionary holds: (name of the part, place of the value)."""
        value = self.values[index] if index < len(self.values) else None
        table = value.one(VALUE) if value is not None else None
        if table is None:
            return
        if table.name == "Object":
            held = self._items(table, ATTRIBUTES)
            kind = self.type_of(table)
            names = kind.strings(ATTRIBUTE_NAMES) if kind is not None else []
            if held and len(names) != len(held) and kind is not None:
                self.note(
                    "attributes", table.offset_bytes, f"an object has {len(held)} attributes, its type {len(names)}"
                )
            yield from ((name, inner) for name, inner in zip(names, held, strict=False))
            if not held and table.place(OBJECT_STATE):
                yield "state", table.number(OBJECT_STATE, 4)
        elif table.name in ("List", "Tuple"):
            yield from ((str(number), inner) for number, inner in enumerate(self._items(table, ITEMS)))
        elif table.name == "Dict":
            yield from ((str(number), inner) for number, inner in enumerate(self._items(table, DICT_VALUES)))

    def _items(self, table: Table, field: int) -> tuple[int, ...]:
        return self.flat.items(table.vectors.get(field), "<u4", limit=len(self.values))

    def type_of(self, table: Table) -> Table | None:
        """Return the type of an object."""
        index = table.number(OBJECT_TYPE, 4)
        return self.types[index] if index < len(self.types) else None

    def _tensors(self) -> Iterator[Tensor]:
        for index in range(len(self.values)):
            table = self.value(index, TENSOR)
            if table is not None:
                name = self.names.get(index, f"value_{index}")
                yield self._tensor(table, name)
                inner = table.one(QUANTIZED)
                for field, part in ((SCALES, "scales"), (ZERO_POINTS, "zero_points")) if inner is not None else ():
                    parameters = inner.one(field) if inner is not None else None
                    if parameters is not None:
                        yield self._tensor(parameters, f"{name}.{part}")

    def _tensor(self, table: Table, name: str) -> Tensor:
        """Return a tensor and where its bytes lie; of one with gaps between its rows all from its first to its last."""
        shape = self.flat.items(table.vectors.get(SIZES), "<i4", limit=MAX_RANK)
        strides = self.flat.items(table.vectors.get(STRIDES), "<i4", limit=MAX_RANK)
        dtype, item_bytes = DTYPES.get(table.number(SCALAR_TYPE, 1), ("unknown", 0))
        index, first = table.number(STORAGE_INDEX, 4), table.number(STORAGE_OFFSET, 4)
        storage = self.storages[index] if index < len(self.storages) else None
        layout: tuple[Extent, ...] = ()
        grade = Grade.CONSISTENT
        if dtype == "unknown":
            self.note("unknown-dtype", table.offset_bytes, f"{name!r} is of an unknown type")
        elif storage is None or (extent := _extent(storage, shape, strides, first, item_bytes)) is None:
            grade = Grade.DAMAGED
            self.note("tensor-storage", table.offset_bytes, f"{name!r} does not fit the storage {index} that it names")
        elif extent.size_bytes:
            layout = (extent,)
            grade = Grade.TRUNCATED if extent.end_bytes > self.window.size_bytes else grade
        return Tensor(name=name, dtype=dtype, shape=shape, layout=layout, grade=grade.value)


def _place(storage: Table) -> Extent:
    vector = storage.vectors.get(0)
    if vector is None:
        return Extent(offset_bytes=0, size_bytes=0)
    return Extent(offset_bytes=vector.offset_bytes, size_bytes=vector.size_bytes)


def _extent(
    storage: Extent, shape: tuple[int, ...], strides: tuple[int, ...], first: int, item_bytes: int
) -> Extent | None:
    """Return where a tensor's bytes lie in its storage; None where they do not."""
    if len(shape) != len(strides) or any(number < 0 for number in (*shape, *strides)):
        return None
    reach = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)) + 1 if all(shape) else 0
    if (first + reach) * item_bytes > storage.size_bytes:
        return None
    return Extent(offset_bytes=storage.offset_bytes + first * item_bytes, size_bytes=reach * item_bytes)


def validate(window: Window) -> Verdict:
    """Judge a module that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window, or for more tables than any module has.
    """
    if window.read_at(4, 4) != MAGIC:
        return rejected("magic", at_bytes=4)
    if not _is_module(read_root_table(window.read_at)):
        return rejected("root-table", at_bytes=0)
    flat = FlatBuffer(window, SCHEMA)
    root = flat.root("Module")
    if root is None or not flat.stands or not root.place(VALUES):
        return flat.refusal()
    module = _Module(window, root, flat)
    return module.verdict(_facts(module), noun="module")


def _facts(module: _Module) -> dict[str, object]:
    functions = module.functions()
    state = module.value(module.root.number(STATE, 4), OBJECT)
    kind = module.type_of(state) if state is not None else None
    called = {one.text(OPERATOR_NAME) for function in functions for one in function.many(FUNCTION_OPERATORS)}
    return {
        "bytecode_version": module.root.number(BYTECODE_VERSION, 4),
        "class": kind.text(TYPE_NAME)[:200] if kind is not None else "",
        "methods": [function.text(FUNCTION_NAME)[:200] for function in functions][:MAX_NAMES],
        "operators": len(called),
        "extra_files": [one.text(FILE_NAME)[:200] for one in module.root.many(EXTRA_FILES)][:MAX_NAMES],
    }


def _is_module(root: tuple[bytes, tuple[int, ...]] | None) -> bool:
    """Tell whether a root table can be a module's: a version of its bytecode, and values."""
    if root is None:
        return False
    raw, places = root
    if len(places) <= VALUES or not places[BYTECODE_VERSION] or not places[VALUES]:
        return False
    version = raw[places[BYTECODE_VERSION] : places[BYTECODE_VERSION] + 4]
    return len(version) == 4 and FIRST_VERSION <= int.from_bytes(version, "little") <= LAST_VERSION


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the file's start when the root table before and after the magic is a module's."""
    start = hit_offset_bytes - pattern.offset_bytes
    if start >= 0 and _is_module(read_root_table(lambda at, size: source.read_at(start + at, size))):
        yield start


FORMAT = Format(
    name="pytorch_mobile",
    suffix=".ptl",
    title="PyTorch mobile module (flatbuffer)",
    patterns=(Pattern(bytes=MAGIC, offset_bytes=4, before=ROOT_ADDRESS),),
    validate=validate,
    starts=starts,
    proves="nothing: there are no checksums; all tables, and that every tensor fits its storage, are checked",
)
