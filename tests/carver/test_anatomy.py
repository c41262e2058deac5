"""Anatomy: families by the names that libraries write, and honest numbers."""

from __future__ import annotations

import pytest

from carver.identify.anatomy import DATA_PRODUCERS, examine
from carver.identify.names import family_of_names
from signatures.tensors import Tensor
from tests.carver.made_models import FEED, WIDTH, WORDS, llama, tensors

STEMS = {  # the beginning or the telling middle of real state dicts
    "Llama-like": [name for name, _ in llama()],
    "Qwen2": [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ],
    "Qwen3": [
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ],
    "Gemma 2": ["model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.mlp.gate_proj.weight"],
    "Gemma 3": [
        "language_model.model.layers.3.pre_feedforward_layernorm.weight",
        "language_model.model.layers.3.self_attn.q_norm.weight",
    ],
    "Phi-3": ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"],
    "Phi-2": ["model.layers.0.self_attn.dense.weight", "model.layers.0.mlp.fc1.weight"],
    "Mixtral": ["model.layers.0.block_sparse_moe.experts.0.w1.weight"],
    "DeepSeek (multi-head latent attention)": ["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"],
    "GPT-2": ["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"],
    "GPT-NeoX": ["gpt_neox.layers.0.attention.query_key_value.weight"],
    "BLOOM": ["word_embeddings_layernorm.weight", "h.0.self_attention.query_key_value.weight"],
    "Falcon": ["transformer.h.0.self_attention.query_key_value.weight"],
    "OPT": ["model.decoder.embed_positions.weight", "model.decoder.layers.0.self_attn.q_proj.weight"],
    "Mamba": ["backbone.layers.0.mixer.A_log"],
    "RWKV": ["blocks.0.att.time_decay"],
    "BERT": ["bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.token_type_embeddings.weight"],
    "BERT-like": ["splinter.encoder.layer.0.attention.self.query.weight"],
    "RoBERTa": ["roberta.encoder.layer.0.attention.self.query.weight"],
    "DistilBERT": ["distilbert.transformer.layer.0.attention.q_lin.weight"],
    "T5": [
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "decoder.block.0.layer.1.EncDecAttention.q.weight",
    ],
    "Whisper": [
        "model.encoder.conv1.weight",
        "model.encoder.layers.0.self_attn.q_proj.weight",
        "model.decoder.layers.0.encoder_attn.q_proj.weight",
    ],
    "BART-like": [
        "model.encoder.layers.0.self_attn.q_proj.weight",
        "model.decoder.layers.0.encoder_attn.q_proj.weight",
    ],
    "wav2vec 2.0-like": [
        "feature_extractor.conv_layers.0.conv.weight",
        "encoder.pos_conv_embed.conv.bias",
    ],
    "CLIP": [
        "text_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    ],
    "CLIP text encoder": ["text_model.encoder.layers.0.self_attn.q_proj.weight"],
    "Stable Diffusion, whole checkpoint": [
        "model.diffusion_model.input_blocks.0.0.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
        "first_stage_model.encoder.down.0.block.0.conv1.weight",
    ],
    "Stable Diffusion XL, whole checkpoint": [
        "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    ],
    "Stable Diffusion UNet": [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "time_embedding.linear_1.weight",
    ],
    "Diffusion VAE": ["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"],
    "Flux": ["transformer_blocks.0.attn.to_q.weight", "single_transformer_blocks.0.attn.to_q.weight"],
    "LoRA adapter (PEFT)": [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
    ],
    "LoRA adapter (kohya)": [
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
    ],
    "ViT": ["vit.encoder.layer.0.attention.attention.query.weight"],
    "DINOv2": ["blocks.0.attn.qkv.weight", "blocks.0.ls1.gamma", "patch_embed.proj.weight"],
    "Swin Transformer": ["layers.0.blocks.0.attn.relative_position_bias_table"],
    "BEiT": ["blocks.0.attn.relative_position_bias_table"],
    "Inception": ["inception3a.branch1.conv.weight"],
    "YOLO": ["model.model.0.conv.weight", "model.model.2.cv1.conv.weight", "model.model.2.m.0.cv1.conv.weight"],
    "ResNet": ["layer1.0.conv1.weight", "layer1.0.bn1.weight"],
    "MobileNetV2": ["features.0.0.weight", "features.1.conv.0.0.weight"],
    "MobileNetV3": ["features.1.block.0.0.weight", "classifier.0.weight"],
    "EfficientNet": ["_blocks.0._depthwise_conv.weight"],
    "DenseNet": ["features.denseblock1.denselayer1.conv1.weight"],
    "VGG": ["model_weights/block1_conv1/block1_conv1/kernel:0"],
    "VGG or AlexNet": ["features.0.weight", "classifier.6.weight"],
    "optimizer state (Adam)": ["state.0.exp_avg", "state.0.exp_avg_sq"],
}


@pytest.mark.parametrize("family", STEMS)
def test_a_family_is_known_by_its_names_whatever_wraps_them(family):
    assert family_of_names(STEMS[family]) == family
    assert family_of_names(f"module.{name}" for name in STEMS[family]) == family


def test_weights_beside_an_optimizer_are_no_optimizer_state():
    state = [f"state.{n}.{kind}" for n in range(3) for kind in ("step", "exp_avg", "exp_avg_sq")]
    assert family_of_names(state) == "optimizer state (Adam)"
    assert family_of_names(["model_state_dict.0.weight", *(f"optimizer_state_dict.{name}" for name in state)]) == ""


def test_a_llamas_numbers():
    anatomy = examine(tensors(llama()), {})
    layer = 4 * WIDTH * WIDTH + 3 * FEED * WIDTH + 2 * WIDTH
    assert anatomy.parameters == 2 * layer + 2 * WORDS * WIDTH + WIDTH
    assert (anatomy.layers, anatomy.hidden_size, anatomy.vocabulary) == ((0, 1), WIDTH, WORDS)
    assert (anatomy.family, anatomy.family_source) == ("Llama-like", "tensor names")
    assert anatomy.dtypes == {"float16": anatomy.parameters} and not anatomy.uncounted


def test_shared_weights_count_once_and_state_and_statistics_do_not():
    one = tensors([("a.weight", (4, 4))])[0]
    twice = [one, Tensor(name="b.weight", dtype="float16", shape=(4, 4), layout=one.layout)]
    rest = [
        *tensors([("bn.running_mean", (9,)), ("optimizer.state.0.exp_avg", (9,)), ("x.position_ids", (1, 9))]),
        *tensors([("index", (9,))], "int64"),
        *tensors([("text", (9,))], "string"),
    ]
    assert examine([*twice, *rest], {}).parameters == 16


def test_packed_weights_and_constants_of_nodes_are_said_to_be_more():
    assert examine(tensors([("q_proj.qweight", (4, 4))], "int32"), {}).uncounted
    assert examine(tensors([("a", (4,))]), {"nested_tensor_bytes": 800}).uncounted
    assert not examine(tensors([("a", (4000,))]), {"nested_tensor_bytes": 8}).uncounted


@pytest.mark.parametrize(
    ("blocks", "convolutions", "family"),
    [
        ((2, 2, 2, 2), 2, "ResNet-18"),
        ((3, 4, 6, 3), 2, "ResNet-34"),
        ((3, 4, 6, 3), 3, "ResNet-50"),
        ((1, 1, 1, 1), 2, "ResNet"),
    ],
)
def test_a_resnets_depth_is_told_by_its_blocks(blocks, convolutions, family):
    specs = [
        (f"layer{stage}.{block}.{part}.weight", (4, 4, 3, 3))
        for stage, count in enumerate(blocks, start=1)
        for block in range(count)
        for part in (*(f"conv{n + 1}" for n in range(convolutions)), "bn1")
    ]
    assert examine(tensors(specs), {}).family == family


def test_a_bert_with_two_more_positions_is_a_roberta():
    specs = [
        ("encoder.layer.0.attention.self.query.weight", (4, 4)),
        ("embeddings.position_embeddings.weight", (514, 4)),
        ("embeddings.token_type_embeddings.weight", (1, 4)),
    ]
    assert examine(tensors(specs), {}).family == "RoBERTa"


@pytest.mark.parametrize(
    ("shape", "family"),
    [((64, 64, 3, 3), "ResNet-50"), ((128, 4, 3, 3), "ResNeXt-50"), ((128, 128, 3, 3), "Wide ResNet-50")],
)
def test_the_shapes_of_its_blocks_tell_a_resnet_from_its_kin(shape, family):
    specs = [
        (f"layer{stage}.{block}.conv{part}.weight", shape if part == 2 else (4, 4, 1, 1))
        for stage, count in enumerate((3, 4, 6, 3), start=1)
        for block in range(count)
        for part in (1, 2, 3)
    ]
    assert examine(tensors([*specs, ("layer1.0.bn1.weight", (4,))]), {}).family == family


@pytest.mark.parametrize(("shape", "family"), [((64, 192), "GPT-2"), ((192, 64), "GPT-2"), ((80, 64), "GPT-BigCode")])
def test_a_gpt_whose_heads_share_their_keys_is_no_gpt_2(shape, family):
    assert examine(tensors([("transformer.h.0.attn.c_attn.weight", shape)]), {}).family == family


def test_an_adapter_tells_what_it_adapts():
    assert examine(tensors([(name, (8, 8)) for name in STEMS["LoRA adapter (PEFT)"]]), {}).family.endswith(
        "of Llama-like"
    )


def test_the_architecture_of_a_gguf_and_a_models_own_name_tell_too():
    plain = tensors([("a", (4, 4))])
    assert examine(plain, {"architecture": "llama"}).family_source == "general.architecture"
    assert examine(plain, {"architecture": "made-up"}).family == "made-up"
    told = examine(plain, {"name": "MobileNet_V2_1.0"})
    assert (told.family, told.family_source) == ("MobileNetV2", "name")
    described = examine(plain, {"name": "run7", "metadata": {"description": "Ultralytics YOLOv8n model"}})
    assert (described.family, described.family_source) == ("YOLO", "description")
    assert examine(plain, {"name": "run7", "metadata": {"description": 5}}).family == ""


@pytest.mark.parametrize("producer", DATA_PRODUCERS)
def test_data_files_are_of_no_family(producer):
    assert examine(tensors([("h.0.attn.c_attn.weight", (4,))]), {"producer": f"{producer} 7"}).family == ""


def test_a_name_of_ten_thousand_digits_is_only_a_name():
    anatomy = examine(tensors([(f"layers.{'9' * 10_000}.w", (4,)), (f"layer1.{'9' * 10_000}.conv1.weight", (4,))]), {})
    assert anatomy.layers == () and anatomy.family == ""


def features(first: tuple[int, ...], last: tuple[int, ...], count: int) -> list[tuple[str, tuple[int, ...]]]:
    shapes = [first, *[(256, 256, 3, 3)] * (count - 2), last]
    return [(f"features.{n}.weight", shape) for n, shape in enumerate(shapes)] + [("classifier.6.weight", (10, 4096))]


@pytest.mark.parametrize(
    ("specs", "family"),
    [
        (features((64, 3, 3, 3), (512, 512, 3, 3), 13), "VGG-16"),
        (features((64, 3, 3, 3), (512, 512, 3, 3), 7), ""),
        (features((64, 3, 11, 11), (256, 256, 3, 3), 5), "AlexNet"),
        (features((32, 3, 3, 3), (64, 64, 3, 3), 13), ""),
    ],
)
def test_any_small_network_calls_its_parts_as_vgg_does_so_shapes_decide(specs, family):
    assert examine(tensors(specs), {}).family == family


@pytest.mark.parametrize(
    ("width", "family"),
    [
        (768, "Stable Diffusion 1 UNet"),
        (1024, "Stable Diffusion 2 UNet"),
        (2048, "Stable Diffusion XL UNet"),
        (32, "Stable Diffusion UNet"),
    ],
)
def test_the_width_of_the_text_tells_which_stable_diffusion_it_is(width, family):
    specs = [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", (320, width)),
        ("time_embedding.linear_1.weight", (1280, 320)),
    ]
    assert examine(tensors(specs), {}).family == family


def test_a_resnet_inside_something_else_is_called_its_backbone():
    specs = [
        (f"body.layer{stage}.{block}.{part}.weight", (4, 4, 3, 3))
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for part in ("conv1", "conv2", "bn1")
    ]
    assert examine(tensors([*specs, ("head.weight", (4, 4))]), {}).family == "ResNet-18 backbone"


@pytest.mark.parametrize(
    ("specs", "family"),
    [
        ([("<my-cat>", (768,))], "Textual inversion"),
        ([("<my-cat>", (5,))], ""),
        ([("my-cat", (768,))], ""),
        ([("clip_l", (4, 768)), ("clip_g", (4, 1280))], "Textual inversion"),
    ],
)
def test_an_embedding_of_one_word_is_known_by_its_width(specs, family):
    assert examine(tensors(specs), {}).family == family


def test_what_a_model_computes_for_itself_is_no_parameter():
    specs = [
        *(("h.0.attn.bias", (1, 1, 8, 8)), ("h.0.attn.masked_bias", ()), ("state.0.step", ())),
        *(("bn/moving_mean:0", (8,)), ("bn/moving_variance", (8,))),
        *(("rotary_emb.inv_freq", (8,)), ("h.0.attn.c_attn.bias", (24,))),
    ]
    assert examine(tensors(specs), {}).parameters == 24


def test_how_good_a_model_was_is_no_parameter_and_a_scale_of_no_dimension_is_one():
    metrics = ("best_val_loss", "best_acc1", "val.loss", "callbacks.ModelCheckpoint{'monitor': None}.kth_value")
    told = examine(tensors([*((name, ()) for name in metrics), ("logit_scale", ()), ("loss.weight", (3,))]), {})
    assert told.parameters == 4


def test_layers_of_convolutions_before_a_transformer_are_not_its_layers():
    specs = [*((f"extractor.conv_layers.{n}.w", (4,)) for n in range(7)), ("encoder.layers.1.w", (4,))]
    assert examine(tensors(specs), {}).layers == (1,)
    assert examine(tensors([("bert/encoder/layer_._3/w", (4,))]), {}).layers == (3,)


@pytest.mark.parametrize("turned", [False, True], ids=["keras", "onnx"])
def test_keras_inception_is_known_by_its_convolutions_alone(turned):
    keras = [(3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (1, 1, 64, 80), (3, 3, 80, 192), (1, 1, 192, 64)]
    keras += [(3, 3, 448, 384), (1, 3, 384, 384), (3, 1, 384, 384)]
    shapes = [(to, of, high, wide) for high, wide, of, to in keras] if turned else keras
    specs = [(f"conv2d_{number}/conv2d_{number}/kernel", shape) for number, shape in enumerate(shapes)]
    assert examine(tensors(specs), {}).family == "Inception v3"
    assert examine(tensors(specs[:-1]), {}).family == ""
