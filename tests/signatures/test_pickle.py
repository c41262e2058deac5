"""The inert pickle machine: what it builds, what it calls unsafe, and that nothing runs away."""

from __future__ import annotations

import collections
import pickle
import pickletools
import random

import pytest

from signatures._pickle import Node, read_pickle
from signatures._pickle_globals import Global, is_allowed
from signatures._pickle_opcodes import opcodes


class Runs:
    """Would run a command when loaded."""

    def __reduce__(self):
        return (eval, ("1+1",))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_are_built_in_every_protocol(protocol):
    value = {"a": [1, 2.5, None, True], "b": ("x", b"y", {3}), "big": 2**80}
    read = read_pickle(pickle.dumps(value, protocol=protocol))
    assert read.complete
    pairs = dict(read.value.pairs)
    assert pairs["a"].items == [1, 2.5, None, True]
    assert pairs["b"][0] == "x"
    assert pairs["big"] == 2**80


@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_recorded_and_not_made(protocol):
    read = read_pickle(pickle.dumps(Runs(), protocol=protocol))
    assert isinstance(read.value, Node)
    assert read.value.args == ("1+1",)
    assert [name.split(".")[1] for name in read.unsafe] == ["eval"]


def test_an_ordered_dict_is_allowed():
    read = read_pickle(pickle.dumps(collections.OrderedDict(a=1), protocol=2))
    assert read.unsafe == ()
    assert read.value.pairs == [("a", 1)]


@pytest.mark.parametrize(
    "raw",
    [
        b"cos\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"(S'ls'\nios\nsystem\n.",
        b"(cos\nsystem\nS'ls'\no.",
        b"\x80\x02\x82\x01.",
        b"cbuiltins\ngetattr\n.",
        b"cbuiltins\nexec\n.",
        b"ctorch.storage\n_load_from_bytes\n.",
        b"ctorch.hub\nload\n.",
        b"cnumpy\nload\n.",
        b"ctorch\nload\n.",
        b"cos.path\nStorage\n.",
        b"ctorch\nevil.Storage\n.",
        b"\x80\x04K\x01K\x02\x93.",
        b"c__torch_evil\nx\n.",
        b"ccollections\nOrderedDict.fromkeys\n.",
        b"crunpy\n_run_code\n.",
    ],
)
def test_names_that_could_do_harm_are_unsafe(raw):
    assert len(read_pickle(raw).unsafe) == 1


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "FloatStorage"),
        ("torch", "float8_e4m3fn"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch.storage", "UntypedStorage"),
        ("__torch__.torch.nn.modules.linear", "Linear"),
        ("numpy.core.multiarray", "scalar"),
    ],
)
def test_names_that_weights_need_are_allowed(module, name):
    assert is_allowed(Global(module, name))


@pytest.mark.parametrize(
    "raw", [b"", b".", b"0.", b"t.", b"R.", b"h\x05.", b"\x80\x02]q", b"u.", b"(u.", b"\xff", b"\x93."]
)
def test_broken_pickles_give_what_was_built(raw):
    assert read_pickle(raw).value in (None, ()) or isinstance(read_pickle(raw).value, Node)


def test_a_pickle_cut_in_the_middle_keeps_its_outer_dict():
    raw = pickle.dumps({"first": 1, "second": [2] * 50}, protocol=2)
    read = read_pickle(raw[:-20])
    assert not read.complete
    assert isinstance(read.value, Node)


def test_a_length_beyond_the_end_is_a_break():
    assert not read_pickle(b"X\xff\xff\xff\x7fabc.").complete


def test_a_doubling_of_shared_lists_costs_nothing():
    raw = b"\x80\x02]" + b"2]2\x86a" * 3 + b"".join(b"q%c(h%ch%cl" % (i, i, i) for i in range(60)) + b"."
    assert read_pickle(raw).size_bytes > 0


def test_an_argument_that_only_a_disassembler_refuses_hides_nothing():
    raw = b"S'\\q\xe9'\n0S'no closing quote\n0cos\nsystem\n."
    assert read_pickle(raw).unsafe == ("os.system",)


def test_every_opcode_of_the_language_is_read_as_the_disassembler_reads_it():
    for protocol in range(6):
        raw = pickle.dumps(
            [1, 300, 70000, 2**70, -5, 1.5, "é", b"b" * 300, True, None, (), {"a": {1}}, bytearray(3)], protocol
        )
        ours = [(name, end) for name, _, end in opcodes(raw)]
        theirs = [(opcode.name, at) for opcode, _, at in pickletools.genops(raw)]
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        assert [end for _, end in ours][:-1] == [at for _, at in theirs][1:]


def test_random_bytes_never_raise():
    rng = random.Random(4)
    seedling = pickle.dumps({"a": [Runs(), {"b": (1, 2)}]}, protocol=2)
    for _ in range(3000):
        raw = bytearray(seedling)
        for _ in range(rng.randrange(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        read_pickle(bytes(raw))
        read_pickle(rng.randbytes(40))
