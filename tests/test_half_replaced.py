"""Half a file is gone: zeros, random bytes or another model's tensors stand there. No grade is better than its proof.

Zeros and random bytes are seen in every format; another model's tensors of the same layout only where a checksum is,
since nothing else could tell. What a ransomware does, stripes of random bytes behind an intact head, is told with its
share.
"""

from __future__ import annotations

import importlib.util
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from fixtures import demo
from fixtures.formats import coreml_weights as coreml
from fixtures.formats import executorch, ort, pytorch_mobile, tflite
from fixtures.formats import pytorch_zip as zips
from fixtures.formats import saved_model as graphs
from fixtures.formats import torch_distributed as distcp
from fixtures.formats._flatbuffer_bytes import Node, Num, ints
from fixtures.images import build_plain
from tests.command import good
from tests.report_schema import GOOD, load_checked

PROVEN = {"hdf5-checked", "npz", "pytorch_zip", "keras", "torch_distributed"}
LIBRARIES = {
    "hdf5": "h5py",
    "hdf5-checked": "h5py",
    "keras": "h5py",
    "onnx": "onnx",
    "gguf": "gguf",
    "pytorch_legacy": "torch",
}
STRIPE_BYTES, PERIOD_BYTES = 64 << 10, 256 << 10


def hdf5(weights, **options):
    import h5py

    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for name, values in weights.items():
            file.create_dataset(name, data=values, **options)
    return held.getvalue()


def hdf5_checked(weights):
    return hdf5(weights, chunks=True, fletcher32=True)


def onnx(weights):
    from onnx import TensorProto, helper, numpy_helper

    held = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def gguf(weights, tmp_path):
    from gguf import GGUFWriter

    path = tmp_path / "made.gguf"
    writer = GGUFWriter(path, "llama")
    for name, values in weights.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    path.unlink()
    return content


def numpy_array(weights):
    held = io.BytesIO()
    np.save(held, np.concatenate([values.ravel() for values in weights.values()])[:1_000_003])
    return held.getvalue()


def npz(weights):
    held = io.BytesIO()
    np.savez(held, **weights)
    return held.getvalue()


def pytorch_legacy(weights):
    import torch

    held = io.BytesIO()
    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    torch.save(tensors, held, _use_new_zipfile_serialization=False)
    return held.getvalue()


def safetensors_f16(weights):
    header, held = {}, b""
    for name, values in weights.items():
        raw = values.astype("<f2").tobytes()
        place = [len(held), len(held) + len(raw)]
        header[name] = {"dtype": "F16", "shape": values.shape, "data_offsets": place}
        held += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + held


def torch_members(weights):
    keys = dict(enumerate(weights.values()))
    told = [
        zips.Weight(name=name, dtype="float32", shape=values.shape, storage=key)
        for key, (name, values) in enumerate(weights.items())
    ]
    pickled = zips.pickle_of(told, {key: values.size for key, values in keys.items()})
    stored = [zips.Member(name=f"data/{key}", data=values.tobytes()) for key, values in keys.items()]
    return [zips.Member(name="data.pkl", data=pickled), *stored, zips.Member(name="version", data=b"3\n")]


def keras(weights):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0", "date_saved": "2026-01-01"}))
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"name": "net"}}))
        archive.writestr("model.weights.h5", hdf5(weights))
    return held.getvalue()


def tflite_model(weights):
    tensors = [tflite.tensor("x", tflite.FLOAT32, (1, 8), 0)]
    for number, (name, values) in enumerate(weights.items(), 1):
        tensors.append(tflite.tensor(name, tflite.FLOAT32, values.shape, number))
    tensors.append(tflite.tensor("y", tflite.FLOAT32, (1, 7), 0))
    buffers = [tflite.buffer_of(values.tobytes()) for values in weights.values()]
    return tflite.model([tensors], [tflite.buffer_of(b""), *buffers])


def mobile_module(weights):
    kind = pytorch_mobile.FLOAT32
    return pytorch_mobile.of_bytes([(name, kind, values.shape, values.tobytes()) for name, values in weights.items()])


def ort_model(weights):
    return ort.of_bytes([(name, ort.FLOAT32, values.shape, values.tobytes()) for name, values in weights.items()])


def executorch_program(weights):
    held, offsets, values = b"", [0], [executorch.tensor("", executorch.FLOAT32, (2, 8), 0)]
    for number, (name, array) in enumerate(weights.items(), 1):
        held += bytes(-len(held) % 16)
        offsets.append(len(held))
        held += array.tobytes()
        values.append(executorch.tensor(name, executorch.FLOAT32, array.shape, number))
    table = [Node((None, Num("Q", len(held))))]
    places = Node((None, ints(offsets, "Q")))
    return executorch.program(Node((None, [executorch.plan(values)], None, None, table, places)), held)


def coreml_weights(weights):
    held = bytearray(struct.pack("<2I", len(weights), 2) + bytes(56))
    for values in weights.values():
        held += bytes(-len(held) % 64)
        raw = values.astype("<f2").tobytes()
        held += coreml.record(coreml.CODES["float16"], len(raw), len(held), 0) + raw
    return bytes(held)


def tensorflow_graph(weights):
    constants = [graphs.constant(name, 1, values.shape, values.tobytes()) for name, values in weights.items()]
    return graphs.saved_model(graphs.meta_graph([graphs.node("x", "Placeholder"), *constants]))


MADE: dict[str, Callable[..., bytes]] = {
    "safetensors-f16": safetensors_f16,
    "pytorch_zip-no-crc": lambda weights: zips.write_archive("model", torch_members(weights), with_crc=False),
    "torch_distributed": lambda weights: b"".join(distcp.write_tensor(values) for values in weights.values()),
    "keras": keras,
    "tflite": tflite_model,
    "executorch": executorch_program,
    "pytorch_mobile": mobile_module,
    "ort": ort_model,
    "coreml_weights": coreml_weights,
    "saved_model": tensorflow_graph,
    "safetensors": demo.safetensors_file,
    "pytorch_zip": lambda weights: demo.torch_file(weights, root="model"),
    "hdf5": hdf5,
    "hdf5-checked": hdf5_checked,
    "onnx": onnx,
    "gguf": gguf,
    "numpy_array": numpy_array,
    "npz": npz,
    "pytorch_legacy": pytorch_legacy,
}


def made(name, tmp_path, seed):
    weights = demo.transformer(np.random.default_rng(seed), width=250, layers=1)
    return MADE[name](weights, tmp_path) if name == "gguf" else MADE[name](weights)


@pytest.fixture(scope="module", params=MADE)
def kind(request):
    library = LIBRARIES.get(request.param, "numpy")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return request.param


@pytest.fixture(scope="module")
def carved(kind, tmp_path_factory):
    """The whole file and its damaged twins, carved: what is reported at the start of each, None where it is nothing."""
    folder = tmp_path_factory.mktemp(kind)
    content, other = made(kind, folder, 1), made(kind, folder, 2)
    assert len(content) == len(other)
    chance, size = random.Random(7), len(content)
    halves = {"end": (size // 2, size), "middle": (size // 4, 3 * size // 4)}
    twins = {"whole": content}
    for where, (low, high) in halves.items():
        low, high = -(-low // 4096) * 4096, high if high == size else high // 4096 * 4096
        for what, put in (
            ("zeros", bytes(high - low)),
            ("random", chance.randbytes(high - low)),
            ("other", other[low:high]),
        ):
            twins[f"{where}-{what}"] = content[:low] + put + content[high:]
    striped = bytearray(content)
    for at in range(STRIPE_BYTES, size - 2 * STRIPE_BYTES, PERIOD_BYTES):
        striped[at : at + STRIPE_BYTES] = chance.randbytes(STRIPE_BYTES)
    twins["striped"] = bytes(striped)
    truth = build_plain(
        folder / "drive.img", [(name, kind, twin) for name, twin in twins.items()], seed=3, decoys=False
    )
    good("carve", folder / "drive.img", "--out", folder / "CASE")
    starts = {file["layout"][0][0]: file for file in load_checked(folder / "CASE")["files"]}
    found = {name: starts.get(file["layout"][0][0]) for name, file in zip(twins, truth["files"], strict=True)}
    return {name: None if file and is_one_object(file, kind) else file for name, file in found.items()}


def is_one_object(file, kind):
    """Whether only the first zip of several was taken, which may be whole: then it says so."""
    if kind != "torch_distributed" or file["format"] == kind or file["grade"] not in GOOD:
        return False
    assert "one-of-several" in codes(file)
    return True


def codes(file):
    return {finding["code"] for finding in file["findings"]}


def test_the_whole_file_is_good_and_its_numbers_plausible(carved, kind):
    whole = carved["whole"]
    assert whole["grade"] == ("INTACT" if kind in PROVEN else "CONSISTENT")
    assert whole["data_evidence"] == ("checksum" if kind in PROVEN else "plausible")
    assert codes(whole) <= {"crc-absent"}


@pytest.mark.parametrize("where", ["end", "middle"])
@pytest.mark.parametrize("what", ["zeros", "random"])
def test_half_a_file_of_zeros_or_random_bytes_is_never_good(carved, where, what):
    file = carved[f"{where}-{what}"]
    assert file is None or file["grade"] not in GOOD, file and file["findings"]


@pytest.mark.parametrize("where", ["end", "middle"])
def test_another_models_tensors_are_never_better_than_what_the_format_can_prove(carved, kind, where):
    file = carved[f"{where}-other"]
    assert file is None or file["grade"] != "INTACT"
    if kind in PROVEN and file is not None:
        assert file["grade"] not in GOOD


def test_encryption_in_stripes_is_told_with_its_share(carved, kind):
    striped = carved["striped"]
    assert striped is None or striped["grade"] not in GOOD
    if kind not in PROVEN and kind != "hdf5":  # whose metadata lies between the tensors
        (told,) = (f for f in striped["findings"] if f["code"] == "random-weights")
        share = int(told["detail"].partition("%")[0])
        assert 20 <= share <= 30
        assert any(tensor["grade"] == "DAMAGED" for tensor in striped["tensors"])
