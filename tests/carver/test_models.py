"""Models: shards, versions, copies, steps and companions."""

from __future__ import annotations

import pytest

from carver.identify.models import assemble
from carver.recovery import CarvedFile, Companion, Model
from carver.report.model_words import notes
from imaging.extent import span
from signatures.tensors import Tensor, names_digest
from signatures.verdict import Grade
from tests.carver.made_models import WIDTH, WORDS, a_file, llama, tensors

SHARDS = ("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors")
PIECES = (llama([0, 1], last=False), llama([2], first=False, last=False), llama([3], first=False))
CONFIG = {
    "kind": "config.json",
    "model_type": "mistral",
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "vocab_size": WORDS,
}


def index(path: str = "files/model.safetensors.index.json") -> CarvedFile:
    shards = [
        {"name": name, "tensors": len(specs), "names_sha256": names_digest(n for n, _ in specs)}
        for name, specs in zip(SHARDS, PIECES, strict=True)
    ]
    return a_file(path, form="weights_index", facts={"shards": shards, "name": "model.safetensors"}, side=True)


def shard(number: int, **more: object) -> CarvedFile:
    return a_file(f"files/{number}-{more.get('content', '')}", tensors(PIECES[number]), **more)  # type: ignore[arg-type]


def small(path: str, facts: dict[str, object], at_bytes: int = 0) -> CarvedFile:
    return a_file(path, form="model_json", facts=facts, side=True, at_bytes=at_bytes)


def only(models: tuple[Model, ...]) -> Model:
    assert len(models) == 1
    return models[0]


def test_an_index_groups_its_shards_and_tells_the_missing_one():
    model = only(assemble([shard(2, grade=Grade.DAMAGED), shard(0)], [index(), index("files/copy.json")]))
    assert model.files == ("files/0-", "files/2-")
    assert (model.name, model.shards, model.shard_basis) == ("model", 3, "index file")
    assert model.missing_shards == (SHARDS[1],)
    assert model.grade is Grade.DAMAGED
    assert model.layers == 3
    assert model.parameters == sum(only(assemble([shard(n)], [])).parameters for n in (0, 2))
    assert model.companions[0] == Companion(path="files/model.safetensors.index.json", why="names")


def test_of_two_files_that_fit_one_shard_none_is_mixed_in():
    models = assemble([shard(0), shard(1), shard(2), shard(1, content="newer")], [index()])
    assert [len(model.files) for model in models] == [2, 1, 1]
    assert models[0].missing_shards == (f"{SHARDS[1]} (which of 2 files cannot be told)",)
    assert models[1].versions == models[2].files and models[2].versions == models[1].files


def test_a_model_that_lies_in_two_formats_is_grouped_in_each_by_its_own_index():
    """As many downloads do: the shards of both hold the same tensors."""
    torch = [a_file(f"files/{n}.bin", tensors(PIECES[n]), form="pytorch_zip") for n in range(3)]
    names = [name.replace(".safetensors", ".bin") for name in SHARDS]
    shards = [{**told, "name": name} for told, name in zip(index().facts["shards"], names, strict=True)]
    torch_index = a_file("files/torch.json", form="weights_index", facts={"shards": shards}, side=True)
    models = assemble([shard(0), torch[0], torch[1], shard(1), shard(2)], [torch_index, index()])
    assert [model.files for model in models] == [("files/0-", "files/1-", "files/2-"), ("files/0.bin", "files/1.bin")]
    assert [model.missing_shards for model in models] == [(), (names[2],)]


def test_the_parts_of_a_split_gguf_are_grouped_by_its_numbers():
    def part(number: int, name: str = "") -> CarvedFile:
        facts = {"split_number": number, "split_count": 3, "split_tensors": 9} | ({"name": name} if name else {})
        if name:
            facts["architecture"] = "qwen2"
        return a_file(f"files/{number}.gguf", tensors([(f"blk.{number}.w", (4, 4))]), form="gguf", facts=facts)

    model = only(assemble([part(3), part(1, "Tiny-Q8-00001-of-00003")], []))
    assert (model.name, model.family, model.shard_basis) == ("Tiny-Q8", "Qwen2", "split numbers")
    assert model.files == ("files/1.gguf", "files/3.gguf")
    assert model.missing_shards == ("Tiny-Q8-00002-of-00003.gguf",)


def test_numbers_in_the_names_inside_group_zip_checkpoints():
    files = [
        a_file(
            f"files/{n}.bin",
            tensors([(f"w{n}", (4, 4))]),
            form="pytorch_zip",
            facts={"name": f"pytorch_model-{n:05d}-of-00003"},
        )
        for n in (1, 3)
    ]
    model = only(assemble(files, []))
    assert (model.name, model.shards, model.missing_shards) == (
        "pytorch_model",
        3,
        ("pytorch_model-00002-of-00003.bin",),
    )


def test_layers_that_go_on_from_each_other_are_one_model_and_gaps_are_told():
    model = only(assemble([shard(2), shard(0)], []))
    assert (model.shards, model.shard_basis) == (None, "layers")
    assert model.files == ("files/0-", "files/2-")
    assert model.missing_shards == ("layer 2",)
    tail = only(assemble([shard(1), shard(2)], []))
    assert tail.missing_shards == ("the token embedding", "layers 0 to 1")
    head = only(assemble([shard(0), shard(1)], []))
    assert head.missing_shards == ("what follows the last layer found",)


def test_layers_of_two_models_are_not_mixed():
    assert len(assemble([shard(0), shard(2), shard(2, content="other")], [])) == 3
    other = a_file("files/x", tensors(PIECES[1], "float32"))
    assert len(assemble([shard(0), other], [])) == 2
    whole = a_file("files/whole", tensors(llama()))
    assert len(assemble([whole, a_file("files/y", tensors([(f"b.{n}", s) for n, s in llama()]))], [])) == 2


def test_copies_are_told_with_the_first_and_children_and_data_are_no_models():
    whole = tensors(llama())
    files = [
        a_file("files/a.keras", whole, form="keras", content="a"),
        a_file("files/inner.h5", whole, form="hdf5", parent="files/a.keras"),
        a_file("files/b.keras", whole, form="keras", content="a"),
        a_file("files/table.h5", tensors([("x", (9, 9))]), form="hdf5", facts={"producer": "PyTables format 2.1"}),
        a_file("files/array.npy", tensors([("array", (9, 9))]), form="numpy_array"),
        a_file("files/empty.onnx", tensors([("shape", (2,))], "int64"), form="onnx"),
        a_file("files/none.onnx", form="onnx"),
        a_file("files/x.index", whole, form="tf_checkpoint_index"),
    ]
    model = only(assemble(files, []))
    assert (model.files, model.same_content) == (("files/a.keras",), ("files/b.keras",))


def test_versions_stand_in_the_order_of_their_steps_where_all_are_known():
    def at_step(step: int | None) -> CarvedFile:
        facts = {"name": f"checkpoint-{step}", "name_source": "zip root"} if step else {}
        return a_file(f"files/{step}.pt", tensors(llama()), facts=facts)

    models = assemble([at_step(900), at_step(100), at_step(500)], [])
    assert [(model.step, model.step_source) for model in models] == [(n, "zip root") for n in (900, 100, 500)]
    assert models[0].versions == ("files/100.pt", "files/500.pt")
    unordered = assemble([at_step(900), at_step(None), at_step(500)], [])
    assert unordered[0].versions == ("files/None.pt", "files/500.pt")
    assert unordered[1].step is None


def test_of_many_versions_each_lists_the_nearest_only():
    files = [a_file(f"files/{n}", tensors(llama([0])), facts={"name": f"step-{n}"}) for n in range(60)]
    models = assemble(files, [])
    assert [len(models[n].versions) for n in (0, 30, 59)] == [16, 32, 16]
    assert models[30].versions == tuple(f"files/{n}" for n in range(14, 47) if n != 30)


def test_one_file_never_fills_two_places_and_thousands_missing_are_not_all_listed():
    lied = index()
    lied.facts["shards"].extend({**lied.facts["shards"][0], "name": f"m-{n}.bin"} for n in range(3))  # type: ignore[index]
    assert only(assemble([shard(0)], [lied])).files == ("files/0-",)
    one = a_file("files/1.bin", tensors([("w", (4, 4))]), facts={"name": "m-00001-of-04000"})
    missing = only(assemble([one], [])).missing_shards
    assert (len(missing), missing[-1]) == (201, "… and 3,799 more")


def test_files_of_a_few_tensors_of_no_family_are_no_versions():
    few = [a_file(f"files/{n}", tensors([("w", (4, 4))])) for n in range(2)]
    assert [model.versions for model in assemble(few, [])] == [(), ()]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        *(("checkpoint-500", 500), ("epoch=3-step=1200", 1200), ("model_step_20000", 20000), ("ckpt7", 7)),
        *(("iter_0040", 40), ("globalstep12", 12), ("resnet50", None), ("stepwise", None), ("checkpoint", None)),
    ],
)
def test_a_step_is_read_from_a_name_that_tells_one(name, step):
    facts = {"name": name, "name_source": "zip root"}
    assert only(assemble([a_file("files/a", tensors(llama()), facts=facts)], [])).step == step


def test_a_checkpoint_that_counts_its_steps_is_believed_before_its_name():
    facts = {"name": "checkpoint-500", "counters": {"global_step": 640, "epoch": 2}}
    model = only(assemble([a_file("files/a", tensors(llama()), facts=facts)], []))
    assert (model.step, model.step_source) == (640, "global_step in the checkpoint")


def test_a_configuration_of_the_very_sizes_belongs_to_the_model_and_tells_its_family():
    far = 1 << 40
    files = [a_file("files/a", tensors(llama())), a_file("files/b", tensors(llama(range(3))), at_bytes=far)]
    models = assemble(files, [small("files/config.json", CONFIG, at_bytes=far)])
    assert models[0].companions == (Companion(path="files/config.json", why="sizes"),)
    assert (models[0].family, models[0].family_source) == ("Mistral", "config.json")
    assert (models[1].family, models[1].companions) == ("Llama-like", ())


NAMELESS = [
    ("core.embed_tokens.weight", (WORDS, WIDTH)),
    *((f"layers.{at}.mix.weight", (WIDTH, WIDTH)) for at in (0, 1)),
]
CLASSES = {"architectures": ["MistralForCausalLM"]}


def test_where_names_tell_no_family_a_configuration_of_the_same_sizes_does():
    files = [a_file("files/a", tensors(NAMELESS))]
    model = only(assemble(files, [small("files/config.json", {**CONFIG, **CLASSES}, at_bytes=1 << 40)]))
    assert (model.family, model.family_source) == ("Mistral", "config.json alone")
    assert (model.configured, model.configured_why) == ("Mistral (MistralForCausalLM)", "sizes")
    assert "a config.json of the same sizes says Mistral (MistralForCausalLM)" in notes(model)
    unknown = {**CONFIG, "model_type": "newest", "architectures": ["NewestForCausalLM"]}
    model = only(assemble(files, [small("files/config.json", unknown, at_bytes=1 << 40)]))
    assert (model.family, model.configured) == ("newest", "newest (NewestForCausalLM)")


def test_a_configuration_that_only_lies_next_to_a_model_is_told_and_settles_nothing():
    beside = small("files/config.json", {"kind": "config.json", "model_type": "gpt2"}, at_bytes=8192)
    model = only(assemble([a_file("files/a", tensors([("x", (8, 8))]))], [beside]))
    assert (model.family, model.configured, model.configured_why) == ("", "GPT-2", "place")
    assert "a config.json that lies next to it (a guess) says GPT-2" in notes(model)


def test_a_configuration_that_says_otherwise_than_the_names_is_told_beside_them():
    resnet = [("conv1.weight", (64, 3, 7, 7)), ("layer1.0.conv1.weight", (64, 64, 3, 3)), ("fc.weight", (1000, 512))]
    resnet += [(f"layer{at}.0.bn1.running_mean", (64,)) for at in (1, 2, 3, 4)]
    files = [a_file("files/a", tensors(resnet, "float32"))]
    beside = {"kind": "config.json", "architectures": ["WhisperModel"], "model_type": "whisper"}
    model = only(assemble(files, [small("files/config.json", beside, at_bytes=8192)]))
    assert (model.family, model.family_source, model.configured) == ("ResNet", "tensor names", "whisper (WhisperModel)")
    assert "a config.json that lies next to it (a guess) says otherwise: whisper (WhisperModel)" in notes(model)


def test_a_configuration_that_agrees_with_the_names_is_told_as_such():
    config = small("files/config.json", {**CONFIG, **CLASSES, "model_type": "llama"}, at_bytes=1 << 40)
    model = only(assemble([a_file("files/a", tensors(llama()))], [config]))
    assert (model.family, model.family_source) == ("Llama", "config.json")
    assert "a config.json of the same sizes agrees: Llama (MistralForCausalLM)" in notes(model)


def test_a_configuration_of_a_type_that_is_not_known_refines_names_that_many_families_share():
    config = small("files/config.json", {**CONFIG, "model_type": "newest"}, at_bytes=1 << 40)
    model = only(assemble([a_file("files/a", tensors(llama()))], [config]))
    assert (model.family, model.family_source) == ("Llama-like", "tensor names")
    assert "a config.json of the same sizes says newest" in notes(model)


@pytest.mark.parametrize(
    ("path", "name"),
    [("meta/tiny", "tiny"), ("./runs/tiny/", "tiny"), ("C:\\runs\\tiny", "tiny"), ("/", None), ("", None)],
)
def test_a_model_without_a_name_of_its_own_has_the_one_in_its_configuration(path, name):
    config = small("files/config.json", {**CONFIG, "_name_or_path": path})
    model = only(assemble([a_file("files/safetensors-0x200", tensors(llama()))], [config]))
    assert (model.name, model.name_source) == ((name, "config.json") if name else ("safetensors-0x200", "offset"))
    named = a_file("files/mine", tensors(llama()), facts={"name": "mine"}, name_source="zip root")
    assert only(assemble([named], [config])).name == "mine"


def test_an_adapter_is_called_after_what_it_adapts():
    specs = [(f"base_model.model.model.layers.0.self_attn.q_proj.lora_{one}.weight", (8, 8)) for one in "AB"]
    facts = {"kind": "adapter_config.json", "peft_type": "LORA", "base_model_name_or_path": "meta/llama-7b"}
    model = only(assemble([a_file("files/a", tensors(specs))], [small("files/adapter_config.json", facts)]))
    assert (model.name, model.name_source) == ("llama-7b-adapter", "adapter_config.json")
    assert model.family == "LoRA adapter (PEFT) of Llama-like"


def test_a_model_with_shards_missing_fits_the_configuration_of_more_layers():
    whole = {**CONFIG, "num_hidden_layers": 4}
    found = assemble([shard(0), shard(2)], [index(), small("files/config.json", whole, at_bytes=1 << 40)])
    assert only(found).companions[-1] == Companion(path="files/config.json", why="sizes")
    fewer = small("files/config.json", {**CONFIG, "num_hidden_layers": 1}, at_bytes=1 << 40)
    assert len(only(assemble([shard(0), shard(2)], [index(), fewer])).companions) == 1


def test_a_configuration_that_fits_two_goes_by_place():
    far = 1 << 40
    files = [a_file("files/a", tensors(llama())), a_file("files/b", tensors(llama()), at_bytes=far)]
    models = assemble(files, [small("files/config.json", CONFIG, at_bytes=far + 8192)])
    assert (models[0].companions, models[1].companions) == ((), (Companion(path="files/config.json", why="place"),))
    assert [model.family for model in models] == ["Llama-like", "Mistral"]


@pytest.mark.parametrize("words", [WORDS, WORDS - 5])
def test_a_tokenizer_of_as_many_words_belongs_to_the_model(words):
    tokenizer = small("files/tokenizer.json", {"kind": "tokenizer.json", "vocab_size": words}, at_bytes=1 << 40)
    model = only(assemble([a_file("files/a", tensors(llama()))], [tokenizer]))
    assert model.companions == (Companion(path="files/tokenizer.json", why="sizes"),)


def test_what_tells_nothing_goes_to_the_nearest_and_not_too_far():
    files = [a_file("files/a", tensors(llama())), a_file("files/b", tensors(llama(range(3))), at_bytes=1 << 30)]
    state = small(
        "files/trainer_state.json", {"kind": "trainer_state.json", "global_step": 40}, at_bytes=(1 << 30) - 512
    )
    alone = small("files/special_tokens_map.json", {"kind": "special_tokens_map.json"}, at_bytes=1 << 29)
    models = assemble(files, [alone, state])
    assert models[0].companions == ()
    assert models[1].companions == (Companion(path="files/trainer_state.json", why="place"),)
    assert (models[1].step, models[1].step_source) == (40, "trainer_state.json (place)")


def test_of_each_kind_the_nearest_is_taken_and_none_where_sizes_tell_one():
    states = [small(f"files/{n}.json", {"kind": "trainer_state.json"}, at_bytes=8192 + n * 512) for n in (3, 1, 2)]
    other = {**CONFIG, "hidden_size": 5}
    configs = [small("files/near.json", other, at_bytes=4096), small("files/far.json", CONFIG, at_bytes=1 << 40)]
    model = only(assemble([a_file("files/a", tensors(llama()))], [*states, *configs]))
    assert [(one.path, one.why) for one in model.companions] == [("files/far.json", "sizes"), ("files/1.json", "place")]


@pytest.mark.parametrize(
    "facts",
    [
        {**CONFIG, "hidden_size": WIDTH + 1},
        {**CONFIG, "num_hidden_layers": 3},
        {**CONFIG, "vocab_size": 5},
        {"kind": "tokenizer.json", "vocab_size": WORDS + 1},
        {"kind": "config.json", "n_embed": WIDTH + 1, "n_layer": 2},
        {"kind": "config.json", "vocab_size": WORDS + 1},
    ],
    ids=["width", "layers", "rows", "words", "bloom", "rows-only"],
)
def test_what_lies_next_to_a_model_and_tells_other_sizes_is_not_its_own(facts):
    assert only(assemble([a_file("files/a", tensors(llama()))], [small("files/x.json", facts)])).companions == ()


LORA = [("m.q_proj.lora_A.weight", (4, 8)), ("m.q_proj.lora_B.weight", (8, 4))]
ODD = [("x.weight", (8, 8)), ("x.bias", (8,))]


@pytest.mark.parametrize(
    ("specs", "facts", "fits"),
    [
        (ODD, {**CONFIG, "hidden_size": 9}, False),
        (ODD, {**CONFIG, "hidden_size": 8}, True),
        ([(f"x{size}", (size,)) for size in range(300)], {**CONFIG, "hidden_size": 999}, True),  # all cannot be held
        (llama(), {"kind": "adapter_config.json"}, False),
        (ODD, {"kind": "adapter_config.json"}, False),
        (LORA, {"kind": "adapter_config.json"}, True),
        (LORA, {**CONFIG, "hidden_size": 8}, False),
    ],
    ids=["no-such-width", "width", "too-many-widths", "no-adapter", "unknown", "adapter", "not-of-an-adapter"],
)
def test_a_configuration_next_to_a_model_that_cannot_be_of_it_is_not_its_own(specs, facts, fits):
    model = only(assemble([a_file("files/a", tensors(specs))], [small("files/x.json", facts)]))
    assert len(model.companions) == fits


def test_the_state_of_random_numbers_is_no_model_and_takes_no_model_its_small_files():
    state = Tensor(name="cpu", dtype="uint8", shape=(5056,), layout=(span(0, 5056),))
    files = [a_file("files/rng", [state], form="pytorch_zip"), a_file("files/a", tensors(llama()), at_bytes=1 << 20)]
    model = only(assemble(files, [small("files/trainer_state.json", {"kind": "trainer_state.json"}, at_bytes=6000)]))
    assert (model.files, len(model.companions)) == (("files/a",), 1)


def test_a_configuration_passes_over_the_model_that_it_cannot_be_of():
    files = [a_file(f"files/{n}", tensors(llama()), at_bytes=n << 22) for n in (1, 2)]
    files.append(a_file("files/odd", tensors(ODD), at_bytes=0))
    models = assemble(files, [small("files/config.json", CONFIG, at_bytes=4096)])
    assert [(model.files[0], bool(model.companions)) for model in models if model.companions] == [("files/1", True)]


def test_small_files_without_a_model_stay_alone():
    assert assemble([], [small("files/config.json", CONFIG), index()]) == ()


def test_a_keras_file_is_the_model_whose_weights_lie_inside_it():
    config = {"name": "resnet50", "name_source": "config name"}
    whole = a_file("files/net.keras", form="keras", facts=config, grade=Grade.INTACT)
    inside = a_file("files/w.h5", tensors(llama()), form="hdf5", parent=whole.path, facts={"counters": {"step": 5}})
    copy = a_file("files/copy.keras", form="keras", content=whole.path)
    again = a_file("files/w2.h5", tensors(llama()), form="hdf5", parent=copy.path)
    model = only(assemble([whole, inside, copy, again], []))
    assert (model.files, model.same_content, model.grade) == ((whole.path,), (copy.path,), Grade.INTACT)
    assert (model.name, model.step, model.family) == ("resnet50", 5, "Llama-like")


def test_a_wheel_holds_models_of_their_own():
    wheel = a_file("files/some.whl", form="zip_archive")
    inside = [a_file(f"files/{n}", tensors(llama([0, n])), parent=wheel.path) for n in (1, 2)]
    assert [model.files for model in assemble([wheel, *inside], [])] == [("files/1",), ("files/2",)]


def test_a_configuration_tells_a_families_kin_apart():
    kin = {**CONFIG, "model_type": "gemma"}
    assert only(assemble([a_file("files/a", tensors(llama()))], [small("files/c.json", kin)])).family == "Gemma"
    unknown = {**CONFIG, "model_type": "my-own"}
    assert (
        only(assemble([a_file("files/a", tensors(llama()))], [small("files/c.json", unknown)])).family == "Llama-like"
    )
