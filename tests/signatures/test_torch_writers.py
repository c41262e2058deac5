"""What torch's own writers make, beside torch.save: every one is judged whole, and its tensors have torch's bytes."""

import contextlib
import io
import warnings
import zipfile

import pytest

from fixtures.formats.pytorch_zip import Member, write_archive
from imaging.extent import span
from imaging.source import RawImage
from imaging.window import Window
from signatures import formats
from signatures.verdict import Grade
from tests.signatures.zip_window import judge

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(16, 32)
        self.second = torch.nn.Linear(32, 4)
        self.table = torch.nn.Embedding(10, 16)
        self.register_buffer("steps", torch.arange(7))

    def forward(self, x):
        return self.second(torch.relu(self.first(x))) + self.table.weight.sum()


@pytest.fixture
def net():
    torch.manual_seed(5)
    return Net().eval()


def told(content, kind="pytorch_zip"):
    """Judge a file that must be whole and return (verdict, the bytes of each tensor by its name)."""
    verdict = judge(formats()[kind], content)
    assert verdict.grade is Grade.INTACT, verdict.findings
    assert verdict.size_bytes == len(content)
    assert "unreferenced_records" not in verdict.facts
    pieces = {
        tensor.name: b"".join(content[e.offset_bytes : e.end_bytes] for e in tensor.layout)
        for tensor in verdict.tensors
    }
    return verdict, pieces


def raw(tensors):
    return {name: bytes(value.detach().contiguous().view(torch.uint8).numpy()) for name, value in tensors.items()}


def held(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def test_a_scripted_model_has_its_state(net):
    verdict, pieces = told(held(lambda file: torch.jit.save(torch.jit.script(net), file, _extra_files={"a": "b"})))
    assert pieces == raw(net.state_dict())
    assert verdict.facts["kind"] == "torchscript"


class Holder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = {"a": torch.rand(2), "b": torch.rand(3)}
        self.rows = [torch.rand(4), torch.rand(5)]

    def forward(self, x):
        return x + self.table["a"].sum() + self.rows[0].sum()


def test_tensors_in_a_scripted_models_dicts_and_lists_have_their_keys():
    holder = Holder()
    _, pieces = told(held(lambda file: torch.jit.save(torch.jit.script(holder), file)))
    named = {f"table.{key}": value for key, value in holder.table.items()}
    assert pieces == raw(named | {f"rows.{at}": value for at, value in enumerate(holder.rows)})


def test_a_frozen_models_weights_are_its_constants(net):
    _, pieces = told(held(lambda file: torch.jit.save(torch.jit.freeze(torch.jit.script(net)), file)))
    assert set(raw(net.first.state_dict()).values()) <= set(pieces.values())


def test_a_mobile_model_has_its_state(net, tmp_path):
    torch.jit.script(net)._save_for_lite_interpreter(str(tmp_path / "net.ptl"))
    verdict, pieces = told((tmp_path / "net.ptl").read_bytes())
    assert pieces == raw(net.state_dict())
    assert verdict.facts["suffix"] == ".ptl"


def test_a_quantised_scripted_model_has_its_packed_weights(net):
    packed = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8)
    with contextlib.suppress(RuntimeError):
        packed(torch.randn(1, 16))
    verdict, pieces = told(held(lambda file: torch.jit.save(torch.jit.script(packed), file)))
    weight, bias = packed.first._packed_params._weight_bias()
    assert pieces["first._packed_params._packed_params.0"] == bytes(weight.int_repr().numpy())
    assert pieces["first._packed_params._packed_params.1"] == raw({"": bias})[""]
    assert [t.dtype for t in verdict.tensors if t.name.startswith("first")] == ["qint8", "float32"]


def test_a_package_has_the_tensors_of_its_pickles(net, tmp_path):
    from torch.package import PackageExporter

    with PackageExporter(str(tmp_path / "net.pt")) as package:
        package.extern("**")
        package.save_pickle("models", "net.pkl", net.state_dict())
    verdict, pieces = told((tmp_path / "net.pt").read_bytes())
    assert pieces == raw(net.state_dict())
    assert verdict.facts["kind"] == "torch.package"
    with PackageExporter(str(tmp_path / "two.pt")) as package:
        package.extern("**")
        package.save_pickle("models", "a.pkl", {"w": torch.ones(3)})
        package.save_pickle("models", "b.pkl", {"w": torch.zeros(2)})
    assert told((tmp_path / "two.pt").read_bytes())[1] == {"models/a.w": b"\0\0\x80?" * 3, "models/b.w": bytes(8)}


def test_an_exported_program_has_its_state(net):
    program = torch.export.export(net, (torch.randn(1, 16),))
    verdict, pieces = told(held(lambda file: torch.export.save(program, file)))
    assert pieces == raw(net.state_dict())
    assert verdict.facts["suffix"] == ".pt2"


def exported(records):
    members = [Member(name=name, data=data) for name, data in records]
    return write_archive("old", [*members, Member(name="archive_format", data=b"pt2")], serialization_id=True)


def test_weights_of_an_exported_program_may_be_a_torch_zip_inside(net):
    """As torch 2.7 and 2.8 wrote them."""
    weights = held(lambda file: torch.save(net.state_dict(), file))
    content = exported([("models/model.json", b"{}"), ("data/weights/model.pt", weights)])
    verdict, pieces = told(content)
    assert pieces == raw(net.state_dict())
    assert all(tensor.grade == Grade.INTACT for tensor in verdict.tensors)
    at = content.index(pieces["first.weight"])
    damaged = judge(formats()["pytorch_zip"], content[:at] + b"\0\0\0\0" + content[at + 4 :])
    assert damaged.grade is Grade.DAMAGED
    assert {tensor.grade for tensor in damaged.tensors} == {Grade.DAMAGED}


def test_a_pickled_entry_of_an_exported_program_is_a_torch_zip_inside():
    table = b'{"config": {"net.w": {"path_name": "weight_0", "use_pickle": true, "tensor_meta": null}}}'
    weight = held(lambda file: torch.save(torch.ones(3), file))
    folder = "data/weights/"
    records = [(folder + "weight_0", weight), (folder + "model_weights_config.json", table)]
    assert told(exported(records))[1] == {"net.w": b"\0\0\x80?" * 3}


def test_what_a_torch_zip_inside_would_import_is_told():
    evil = write_archive("archive", [Member(name="data.pkl", data=b"\x80\x02cos\nsystem\nX\1\0\0\0a\x85R.")])
    verdict = judge(formats()["pytorch_zip"], exported([("data/weights/model.pt", evil)]))
    assert verdict.facts["unsafe_globals"] == ["os.system"]
    assert "unsafe-global" in {finding.code for finding in verdict.findings}


def test_a_zip_inside_a_zip_inside_is_not_opened():
    inner = exported([("data/weights/model.pt", held(lambda file: torch.save(torch.ones(3), file)))])
    assert judge(formats()["pytorch_zip"], exported([("data/weights/model.pt", inner)])).tensors == ()


def test_each_zip_of_a_distributed_checkpoint_is_a_file_of_its_own(tmp_path):
    from torch.distributed import checkpoint

    from signatures.pytorch_zip import FORMAT
    from tests.signatures.zip_window import starts_in

    torch.manual_seed(3)
    weights = {f"layers.{n}.weight": torch.randn(30 + n, 50) for n in range(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"model": weights, "step": torch.tensor(3)}, checkpoint_id=str(tmp_path / "dcp"))
    content = b"".join(path.read_bytes() for path in sorted((tmp_path / "dcp").glob("*.distcp")))
    starts = sorted(starts_in(FORMAT, content))
    assert starts[0] == 0
    ends, tensors = [], []
    for start in starts:
        verdict = judge(FORMAT, content[start:])
        assert verdict.grade is Grade.INTACT
        ends.append(start + verdict.size_bytes)
        (tensor,) = verdict.tensors
        (extent,) = tensor.layout
        tensors.append(content[start + extent.offset_bytes : start + extent.end_bytes])
    assert ends == [*starts[1:], len(content)]
    assert sorted(tensors) == sorted([*raw(weights).values(), (3).to_bytes(8, "little")])


def test_a_file_packed_again_by_any_zip_program_is_whole(net):
    content = held(lambda file: torch.save(net.state_dict(), file))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        again = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(again, "w", method) as new:
            new.mkdir("archive")  # as 7-Zip and Info-ZIP list folders, too
            new.mkdir("archive/data")
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        verdict, pieces = told(again.getvalue())
        if method == zipfile.ZIP_STORED:
            assert pieces == raw(net.state_dict())
        else:
            assert [tensor.name for tensor in verdict.tensors] == list(net.state_dict())


@pytest.mark.long
@pytest.mark.parametrize("cut_bytes", [0, 300, 1 << 20])
def test_a_file_beyond_four_gibibytes_tells_its_length_and_every_tensor(tmp_path, cut_bytes):
    tensors = {"first": torch.ones(100), "huge": torch.zeros((4 << 30) + 4096, dtype=torch.uint8)}
    tensors |= {"behind": torch.ones(1000, 10), "half": torch.zeros(1 << 20).half(), "empty": torch.zeros(0)}
    path = tmp_path / "huge.pt"
    torch.save(tensors, path)
    with RawImage(path) as image:
        window = Window(image, (span(0, image.size_bytes - cut_bytes),))
        verdict = formats()["pytorch_zip"].validate(window)
        assert verdict.size_bytes == image.size_bytes
    assert verdict.grade is (Grade.TRUNCATED if cut_bytes else Grade.INTACT)
    whole = {tensor.name for tensor in verdict.tensors if tensor.grade == Grade.INTACT}
    assert whole == set(tensors) - ({"half", "empty"} if cut_bytes > 300 else set())
    path.unlink()


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(2))


def test_a_layer_that_knows_its_model_does_not_multiply_the_tensors():
    whole = torch.nn.ModuleList([Layer() for _ in range(12)])
    for layer in whole:
        layer.model = [whole]
    state = {"net": whole, "bias": torch.rand(1)}
    state["self"] = state
    verdict = judge(formats()["pytorch_zip"], held(lambda file: torch.save(state, file)))
    assert [tensor.name for tensor in verdict.tensors] == [*(f"net.{number}.weight" for number in range(12)), "bias"]


def test_a_tensor_below_two_hundred_containers_is_found():
    state = torch.rand(3)
    for _ in range(100):
        state = {"in": [state]}
    verdict, pieces = told(held(lambda file: torch.save(state, file)))
    assert verdict.tensors[0].name == "in.0" + ".in.0" * 99
    assert len(pieces) == 1
