"""Families: the names of real state dicts tell their family, whatever wraps them; other names tell none."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import pytest

from carver.identify.families.rule import rule
from carver.identify.family_table import RULES
from carver.identify.names import MAX_NAME_CHARS, collapsed, family_of_names

LINES = Path(__file__).with_name("state_dicts.txt").read_text().splitlines()
STATE_DICTS = [line.split("\t") for line in LINES if not line.startswith("#")]
WRAPPED = ("module.{}", "_orig_mod.{}", "state_dict.model.{}", "model._orig_mod.module.{}", "model_ema.{}")
OF_ONE_WORD = ("adapter", "Soft prompt", "keras ")  # their names are their own wherever they stand


def expanded(text: str) -> list[str]:
    """Return a.{b,c}.d as a.b.d and a.c.d, of a list divided by commas."""
    names, at = _alternatives(text, 0)
    assert at > len(text)
    return names


def _alternatives(text: str, at: int) -> tuple[list[str], int]:
    names: list[str] = []
    begun = [""]
    while at < len(text) and text[at] != "}":
        if text[at] == "{":
            inner, at = _alternatives(text, at + 1)
            begun = [head + tail for head in begun for tail in inner]
        elif text[at] == ",":
            names, begun, at = names + begun, [""], at + 1
        else:
            begun, at = [head + text[at] for head in begun], at + 1
    return names + begun, at + 1


@pytest.mark.parametrize(("family", "model", "text"), STATE_DICTS, ids=[line[1] for line in STATE_DICTS])
def test_a_real_state_dict_tells_its_family_whatever_wraps_it(family, model, text):
    names = [name.replace("#", "7") for name in expanded(text)]
    told = family.removeprefix("-")
    assert family_of_names(names) == told
    for wrap in WRAPPED:
        assert family_of_names(wrap.format(name) for name in names) == told, wrap


@pytest.mark.parametrize(("family", "model", "text"), STATE_DICTS, ids=[line[1] for line in STATE_DICTS])
def test_the_same_words_in_another_order_tell_nothing(family, model, text):
    if not any(word in f"{family} {model}" for word in OF_ONE_WORD):
        assert family_of_names(".".join(reversed(name.split("."))) for name in expanded(text)) == ""


def test_names_of_checkpoints_that_no_library_of_today_writes_are_known_too():
    known = {
        "Llama-like": ["layers.0.attention.wq.weight", "layers.0.feed_forward.w1.weight"],
        "Mixtral": ["layers.0.attention.wq.weight", "layers.0.feed_forward.experts.0.w1.weight"],
        "Qwen": ["transformer.h.0.attn.c_attn.weight", "transformer.h.0.mlp.w1.weight"],
        "Baichuan": ["model.layers.0.self_attn.W_pack.weight", "model.layers.0.mlp.gate_proj.weight"],
        "ChatGLM": ["transformer.encoder.layers.0.self_attention.query_key_value.weight"],
        "InternLM2": ["model.layers.0.attention.wqkv.weight", "model.layers.0.feed_forward.w1.weight"],
        "Whisper": ["encoder.blocks.0.attn.query.weight", "decoder.blocks.0.cross_attn.query.weight"],
        "CLIP": ["visual.transformer.resblocks.0.a", "transformer.resblocks.0.b", "token_embedding.weight"],
        "Flux": ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"],
        "Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
        "Stable Diffusion 2, whole checkpoint": [
            "model.diffusion_model.input_blocks.0.0.weight",
            "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
        ],
        "SAM": ["image_encoder.blocks.0.attn.qkv.weight", "mask_decoder.iou_token.weight"],
        "SAM 2": ["image_encoder.trunk.blocks.0.attn.qkv.weight", "sam_mask_decoder.iou_token.weight"],
        "DETR": [
            "transformer.decoder.layers.0.multihead_attn.in_proj_weight",
            "bbox_embed.layers.0.weight",
            "class_embed.weight",
        ],
        "Detectron2 R-CNN": ["backbone.bottom_up.res2.0.conv1.weight", "roi_heads.box_head.fc1.weight"],
        "VITS": ["enc_p.encoder.attn_layers.0.conv_q.weight", "flow.flows.0.pre.weight"],
        "Tacotron 2": ["decoder.attention_rnn.weight_ih", "postnet.convolutions.0.0.conv.weight"],
        "HiFi-GAN": ["generator.ups.0.weight_g", "generator.resblocks.0.convs1.0.weight_g"],
        "Textual inversion": ["string_to_param.*"],
    }
    assert {family: family_of_names(names) for family, names in known.items()} == {family: family for family in known}


def test_tensorflow_and_keras_name_layers_their_own_way():
    known = {
        "BERT": [
            "bert/encoder/layer_0/attention/self/query/kernel",
            "bert/embeddings/token_type_embeddings",
        ],
        "DistilBERT": ["tf_distil_bert_model/distilbert/transformer/layer_._0/attention/q_lin/kernel:0"],
        "T5": [
            "encoder/block_000/layer_000/SelfAttention/q",
            "decoder/block_000/layer_001/EncDecAttention/q",
        ],
        "GPT-2": ["model/h0/attn/c_attn/w", "model/wte"],
        "ResNet": ["model_weights/conv2_block1_1_conv/conv2_block1_1_conv/kernel:0", "conv2_block1_1_bn/gamma:0"],
        "EfficientNet": ["model_weights/block1a_dwconv/block1a_dwconv/depthwise_kernel:0"],
        "MobileNetV2": ["block_1_depthwise/block_1_depthwise/depthwise_kernel:0", "Conv_1/Conv_1/kernel:0"],
        "MobileNet": ["conv_dw_1/conv_dw_1/depthwise_kernel:0", "conv_pw_1/conv_pw_1/kernel:0"],
        "Inception": ["InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"],
    }
    assert {family: family_of_names(names) for family, names in known.items()} == {family: family for family in known}


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["weight"],
        ["layers.0.weight"],
        ["encoder.weight", "decoder.weight"],
        ["0.weight", "0.bias", "2.weight"],
        ["fc1.weight", "fc1.bias", "fc2.weight"],
        ["conv1.weight", "bn1.weight", "conv2.weight", "fc.weight"],
        ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "embedding.weight"],
        ["onnx::MatMul_123", "onnx::MatMul_124", "onnx::Conv_9"],
        ["layers/conv2d/vars/0", "layers/conv2d_1/vars/0", "layers/dense/vars/0"],
        ["dense/kernel:0", "dense_1/kernel:0", "conv2d/kernel:0"],
        ["attn.q_proj.weight", "attn.k_proj.weight", "mlp.fc1.weight"],
        ["model.layers.0.self_attn.out_proj.weight", "model.layers.0.linear1.weight"],
    ],
)
def test_names_that_tell_nothing_are_no_family(names):
    assert family_of_names(names) == ""


def test_pytorchs_own_transformer_is_told_as_that_at_most():
    names = ["encoder.layers.0.self_attn.in_proj_weight", "encoder.layers.0.linear1.weight"]
    assert family_of_names(names) == "Transformer (PyTorch's own)"


def test_what_libraries_put_inside_a_name_is_left_out():
    assert collapsed("model._orig_mod.layers.3._fsdp_wrapped_module.mlp._checkpoint_wrapped_module.fc1.weight") == (
        "layers.#.mlp.fc#.weight"
    )
    assert collapsed("base_model.model.model.layers.0.q_proj.base_layer.weight") == "layers.#.q_proj.weight"
    assert collapsed("model.0.conv.weight") == "model.#.conv.weight"
    assert collapsed("model.weight") == "weight"


def test_a_model_inside_another_is_not_taken_for_the_whole():
    resnet = [f"layer{stage}.0.{part}.weight" for stage in range(1, 5) for part in ("conv1", "bn1")]
    assert family_of_names(resnet) == "ResNet"
    assert family_of_names(f"any.name.{name}" for name in resnet) == "ResNet"
    assert family_of_names([*(f"image.{name}" for name in resnet), "head.weight"]) == "ResNet backbone"


def test_a_file_of_two_models_is_neither():
    bert = [f"text.encoder.layer.{n}.attention.self.query.weight" for n in range(9)]
    vit = [f"image.encoder.layer.{n}.attention.attention.query.weight" for n in range(9)]
    assert family_of_names([*bert, *vit]) == ""
    assert family_of_names([*bert, *vit[:2]]) == "BERT-like"


def test_a_copy_of_the_weights_beside_them_changes_nothing():
    names = ["layer1.0.conv1.weight", "layer1.0.bn1.weight", "fc.weight"]
    copies = [f"{beside}.{name}" for beside in ("model", "ema") for name in names]
    assert family_of_names([*copies, "optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq"]) == "ResNet"


def test_a_name_matches_by_whole_parts_only():
    assert family_of_names(["xlayer1.0.conv1.weight", "xlayer1.0.bn1.weight"]) == ""


def test_no_rule_hides_behind_one_before_it():
    for number, one in enumerate(RULES):
        earlier = [other for other in RULES[:number] if set(other.has) <= set(one.has) and not other.lacks]
        assert not earlier, one


def test_a_rule_is_what_it_says():
    made = rule("X", "a.#", lacks=("b",))
    assert (made.family, made.has, made.lacks, made.part) == ("X", ("a.#",), ("b",), False)


def test_too_many_names_to_be_a_models_are_not_looked_at():
    known = ["layer1.0.conv1.weight", "layer1.0.bn1.weight"]
    others = ("".join(letters) for letters in itertools.product("abcdefghijklmnopqrst", repeat=4))
    assert family_of_names([*known, *itertools.islice(others, 20_000)]) == ""


def test_of_names_of_megabytes_only_the_beginning_is_looked_at_and_kept():
    tracemalloc.start()
    try:
        assert {collapsed("x.y." + str(n) + "z" * (1 << 20)) for n in range(8)} == {
            "x.y.#" + "z" * (MAX_NAME_CHARS - 5)
        }
        assert tracemalloc.get_traced_memory()[0] < 1 << 19
    finally:
        tracemalloc.stop()
