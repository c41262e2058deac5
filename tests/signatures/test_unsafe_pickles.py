"""What would run when a pickle is loaded is reported, however it is written; nothing dangerous passes as safe.

Each case that can be run harmlessly is run by Python's own unpickler, too, in a child: the claim is that whatever it
would import, we have told.
"""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fixtures.formats import npz, pytorch_legacy, pytorch_zip
from signatures import formats
from signatures._pickle import read_pickle
from tests.signatures.zip_window import judge

DANGEROUS = """
    os system, os popen, os execv, os spawnl, os remove, os putenv, posix system, nt system, subprocess Popen,
    subprocess call, subprocess check_output, subprocess getoutput, builtins eval, builtins exec, builtins compile,
    builtins open, builtins getattr, builtins setattr, builtins __import__, builtins globals, builtins breakpoint,
    builtins input, builtins print, builtins map, builtins vars, builtins type, __builtin__ eval, __builtin__ execfile,
    __builtin__ apply, __builtin__ file, __builtin__ reduce, runpy run_path, runpy run_module, runpy _run_code,
    importlib import_module, importlib __import__, importlib.util spec_from_file_location, pty spawn, pdb run,
    bdb Bdb.run, timeit timeit, timeit main, cProfile run, profile run, profile Profile.runctx, trace Trace.run,
    code InteractiveInterpreter.runcode, code interact, codeop compile_command, types CodeType, types FunctionType,
    functools partial, functools reduce, operator attrgetter, operator itemgetter, operator methodcaller,
    _operator attrgetter, itertools starmap, pickle loads, pickle load, _pickle loads, cPickle loads, marshal loads,
    shelve open, dill loads, dill._dill _create_function, cloudpickle.cloudpickle _make_function, joblib load,
    torch load, torch.serialization load, torch.storage _load_from_bytes, torch.hub load, torch.jit load,
    torch.utils.cpp_extension load_inline, torch._inductor.codecache compile_file, torch.utils.collect_env run,
    torch.utils.data.datapipes.utils.decoder basichandlers, torch.fx.graph_module reduce_graph_module,
    torch.distributed.rpc rpc_sync, torch._dynamo.guards GuardBuilder.get, torch.package PackageImporter,
    torch.multiprocessing.reductions rebuild_storage_filename, numpy load, numpy fromfile, numpy.testing runstring,
    numpy.testing._private.utils runstring, numpy.f2py.crackfortran getlincoef, numpy.ctypeslib load_library,
    numpy.lib.npyio load, pandas read_pickle, pandas.core.computation.eval eval, webbrowser open, socket socket,
    ssl get_server_certificate, http.client HTTPSConnection, urllib.request urlopen, requests.api get, ftplib FTP,
    smtplib SMTP, asyncio run, asyncio.subprocess create_subprocess_shell, aiohttp ClientSession, ctypes CDLL,
    ctypes.util find_library, _ctypes dlopen, multiprocessing.util spawnv_passfds, shutil rmtree, pathlib Path.unlink,
    tempfile mktemp, sys setprofile, sys modules, sys settrace, builtins.__dict__ eval, pkgutil resolve_name,
    pydoc pipepager, pydoc locate, doctest debug_script, ensurepip _run_pip, venv create, pip main, uuid getnode,
    imaplib IMAP4_stream, logging FileHandler, logging.config fileConfig, _io FileIO, io open, io open_code,
    linecache getline, distutils.file_util write_file, lib2to3.pgen2.pgen ParserGenerator.make_label,
    test.support.script_helper assert_python_ok, _posixsubprocess fork_exec, _osx_support _read_output,
    xmlrpc.client ServerProxy, antigravity geohash, zipimport zipimporter, zipfile ZipFile, tarfile open,
    keras.models load_model, tensorflow load_op_library, transformers AutoModel.from_pretrained,
    sklearn.utils _joblib.load, gc get_objects, inspect getattr_static, string Formatter.format, re sub, signal alarm,
    threading Thread, atexit register, weakref finalize, contextlib ExitStack.callback, site execsitecustomize,
    collections namedtuple, collections OrderedDict.fromkeys, copyreg _reconstructor, copyreg __newobj__,
    _frozen_importlib _call_with_frames_removed, idlelib.run Executive.runcode, _pyrepl.pager pipe_pager
"""
NAMES = [tuple(entry.split()) for entry in DANGEROUS.replace("\n", " ").split(",")]
CALL = b"(S'payload'\ntR."


def text(value):
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def short(value):
    return b"\x8c" + bytes((len(value),)) + value.encode()


WAYS = {
    "global": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + CALL,
    "protocol-0": lambda m, n: b"c" + f"{m}\n{n}\n".encode() + CALL,
    "stack-global": lambda m, n: b"\x80\x04" + short(m) + short(n) + b"\x93" + CALL,
    "stack-global-of-long-texts": lambda m, n: b"\x80\x04" + text(m) + text(n) + b"\x93" + CALL,
    "names-from-the-memo": lambda m, n: b"\x80\x04" + short(n) + b"\x94" + short(m) + b"\x940h\x01h\x00\x93" + CALL,
    "memo-written-over": lambda m, n: (
        b"\x80\x04" + short("collections") + b"q\x00" + short(m) + b"q\x00h\x00" + short(n) + b"\x93" + CALL
    ),
    "names-duplicated": lambda m, n: b"\x80\x04" + short(m) + b"2" + short(n) + b"\x93" + CALL,
    "names-under-other-values": lambda m, n: b"\x80\x04" + short(m) + short("x") + b"0" + short(n) + b"\x93" + CALL,
    "names-behind-a-popped-mark": lambda m, n: b"\x80\x04" + short(m) + b"(K\x01K\x021" + short(n) + b"\x93" + CALL,
    "names-in-escapes": lambda m, n: (
        b"".join(b"V" + b"".join(b"\\u%04x" % ord(letter) for letter in one) + b"\n" for one in (m, n)) + b"\x93" + CALL
    ),
    "inst": lambda m, n: b"(S'payload'\ni" + f"{m}\n{n}\n.".encode(),
    "obj": lambda m, n: b"(c" + f"{m}\n{n}\n".encode() + b"S'payload'\no.",
    "newobj": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + b"(S'payload'\nt\x81.",
    "newobj-ex": lambda m, n: b"\x80\x04c" + f"{m}\n{n}\n".encode() + b"(S'payload'\nt}\x92.",
    "build": lambda m, n: b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0a" + f"c{m}\n{n}\nsb.".encode(),
    "in-a-frame": lambda m, n: b"\x80\x04\x95\xff\0\0\0\0\0\0\0" + short(m) + short(n) + b"\x93" + CALL,
    "unused": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + b"0N.",
    "behind-a-number-in-hexadecimal": lambda m, n: b"I0x10\n0L0x1_0L\n0c" + f"{m}\n{n}\n".encode() + CALL,
    "behind-a-number-with-a-nul": lambda m, n: b"F1.5\0x\n0I1\0z\n0c" + f"{m}\n{n}\n".encode() + CALL,
    "behind-a-memo-with-a-nul": lambda m, n: b"K\x01p1\0x\n0c" + f"{m}\n{n}\n".encode() + CALL,
    "behind-a-break": lambda m, n: b"0c" + f"{m}\n{n}\n".encode() + CALL,
    "without-an-end": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + CALL[:-1],
    "cut-in-what-follows": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + CALL[:-1] + b"T\xff\xff\0\0ab",
    "as-a-persistent-id": lambda m, n: b"\x80\x02c" + f"{m}\n{n}\n".encode() + b"Q.",
}


@pytest.mark.parametrize("way", WAYS)
def test_every_dangerous_name_is_reported_in_every_way_of_writing_it(way):
    missed = [(m, n) for m, n in NAMES if f"{m}.{n}" not in read_pickle(WAYS[way](m, n)).unsafe]
    assert missed == []


@pytest.mark.parametrize("way", ["names", "module"])
def test_a_name_that_is_made_while_loading_is_reported(way):
    made = b"\x80\x04c_codecs\nencode\n" + short("flfgrz") + short("rot13") + b"\x86R"
    raw = (short("os") + made if way == "names" else made + short("system")) + b"\x93" + CALL
    assert read_pickle(b"\x80\x04" + raw).unsafe == ("?.?",)


def framed(size_bytes, rest):
    return b"\x80\x04\x95" + size_bytes.to_bytes(8, "little") + rest


@pytest.mark.parametrize(
    "raw",
    [
        framed(11, b"c__torch__.os\nsystem\n" + CALL),  # the loader in C drops what a frame cut off: it reads "os"
        framed(16, b"c__torch__.os\nsystem\n" + CALL),
        framed(8, b"ctorch\nFloatStorage\n" + CALL),
        framed(5, b"X\2\0\0\0os\x8c\x06system\x93" + CALL),
    ],
)
def test_a_name_that_a_frame_cuts_in_two_is_never_safe(raw):
    assert "?.?" in read_pickle(raw).unsafe


@pytest.mark.parametrize(
    ("raw", "name"), [(b"cos\nsys", "os.sys"), (b"cantigravity", "antigravity."), (b"(ios\n", "os.")]
)
def test_a_name_without_an_end_is_told(raw, name):
    assert read_pickle(b"\x80\x02" + raw).unsafe == (name,)


@pytest.mark.parametrize(
    "raw", [b"ctorch._utils\n_rebuild_ten", b"ctorch._ut", b"ctorch\nFloatSt", b"c__torch__.a.b\nNet", b"c"]
)
def test_a_harmless_name_that_breaks_off_is_not_called_unsafe(raw):
    assert read_pickle(b"\x80\x02}" + raw).unsafe == ()


def test_whatever_random_opcodes_would_import_we_have_told():
    done = subprocess.run(
        [sys.executable, "-m", "tests.random_pickles", "0", "4000"],
        capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2], check=True,
    )  # fmt: skip
    imported, missed = json.loads(done.stdout)
    assert imported > 3000
    assert missed == []


@pytest.mark.long
def test_whatever_very_many_random_opcodes_would_import_we_have_told():
    command = [sys.executable, "-m", "tests.random_pickles", "10000", "400000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert json.loads(done.stdout)[1] == []


@pytest.mark.parametrize("code", [b"\x82\x07", b"\x83\x07\0", b"\x84\x07\0\0\0"])
def test_registered_extensions_are_reported(code):
    assert len(read_pickle(b"\x80\x02" + code + CALL).unsafe) == 1


CHILD = """
import io, json, pickle, sys
class Told(pickle._Unpickler if sys.argv[1] == "plain" else pickle.Unpickler):
    def find_class(self, module, name):
        told.append(f"{module}.{name}")
        return lambda *args, **keywords: None
told = []
try:
    Told(io.BytesIO(bytes.fromhex(sys.stdin.read()))).load()
except Exception:
    pass
print(json.dumps(told))
"""


def imports_of(raw, kind):
    done = subprocess.run([sys.executable, "-I", "-c", CHILD, kind], input=raw.hex(), capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["plain", "fast"])
@pytest.mark.parametrize("way", WAYS)
def test_what_python_would_import_we_have_told(way, kind):
    raw = WAYS[way]("os", "system")
    read = read_pickle(raw)
    assert set(imports_of(raw, kind)) <= {*read.unsafe, "collections.OrderedDict"}


EVIL = WAYS["global"]("os", "system")


def torch_file(names):
    """Return a torch file, packed again with these records in place of or beside its own."""
    whole = next(iter(pytorch_zip.samples(3))).content
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(held, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for entry in old.infolist():
            if entry.filename.partition("/")[2] not in names.get("without", ()):
                new.writestr(entry.filename, old.read(entry))
        for name in names["with"]:
            new.writestr(f"{root}/{name}", EVIL)
    return held.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [
        {"with": ["data.pkl"]},
        {"with": ["data.pkl"], "without": ["data.pkl"]},
        {"with": ["DATA.PKL"]},
        {"with": ["Data.Pkl"], "without": ["data.pkl"]},
        {"with": ["constants.pkl"]},
        {"with": ["bytecode.pkl"]},
        {"with": ["model/model.pkl"]},
    ],
    ids=["twice", "replaced", "twice-in-capitals", "only-in-capitals", "constants", "bytecode", "package"],
)
def test_every_pickle_that_a_loader_may_take_is_read(names):
    verdict = judge(formats()["pytorch_zip"], torch_file(names))
    assert "unsafe-global" in {finding.code for finding in verdict.findings}
    assert "os.system" in verdict.facts["unsafe_globals"]


def test_torch_finds_the_pickle_in_capitals_as_we_do():
    torch = pytest.importorskip("torch")
    held = io.BytesIO()
    torch.save({"a": torch.ones(3)}, held)
    capitals = io.BytesIO()
    with zipfile.ZipFile(held) as old, zipfile.ZipFile(capitals, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename.replace("data.pkl", "DATA.PKL"), old.read(entry))
    capitals.seek(0)
    assert torch.load(capitals, weights_only=True)["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("place", range(5))
def test_all_five_pickles_of_a_legacy_file_are_read(place):
    whole = next(iter(pytorch_legacy.samples(3))).content
    ends, at = [], 0
    for _ in range(5):
        held = io.BytesIO(whole[at:])
        for _ in _opcodes(held):
            pass
        at += held.tell()
        ends.append(at)
    first = ends[place - 1] if place else 0
    evil = b"cos\nsystem\n0"  # behind the PROTO opcode, its result thrown away
    content = whole[: first + 2] + evil + whole[first + 2 :]
    verdict = judge(formats()["pytorch_legacy"], content)
    assert verdict.facts["unsafe_globals"] == ["os.system"]


def _opcodes(held):
    import pickletools

    return pickletools.genops(held)


def test_objects_in_numpy_files_are_read():
    class Evil:
        def __reduce__(self):
            import os

            return os.system, ("true",)

    held, several = io.BytesIO(), io.BytesIO()
    np.save(held, np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez_compressed(several, things=np.array([Evil()], dtype=object))
    for name, content in (("numpy_array", held), ("npz", several)):
        verdict = judge(formats()[name], content.getvalue())
        (told,) = (finding for finding in verdict.findings if finding.code == "unsafe-global")
        assert "posix.system" in told.detail or "nt.system" in told.detail


def test_healthy_files_tell_nothing_unsafe():
    for module, name in ((pytorch_zip, "pytorch_zip"), (npz, "npz")):
        for sample in module.samples(4):
            if "unsafe" not in sample.name and "package" not in sample.name:
                verdict = judge(formats()[name], sample.content)
                assert "unsafe-global" not in {finding.code for finding in verdict.findings}, sample.name


def test_plain_values_of_every_protocol_tell_nothing_unsafe():
    for protocol in range(6):
        assert read_pickle(pickle.dumps({"a": [1, 2.5, {3}, b"x", None]}, protocol)).unsafe == ()
