"""Shapes: what the shapes of a model's tensors tell of its family beyond their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final, TypeAlias

from signatures.tensors import Tensor

Refine: TypeAlias = Callable[[Sequence[Tensor]], str]

ROBERTA_POSITIONS = 514  # two more than BERT's 512: the padding's
RESNET_DEPTHS: Mapping[tuple[tuple[int, ...], bool], int] = {  # blocks a stage, with bottlenecks
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
VGG_DEPTHS = {8: 11, 10: 13, 13: 16, 16: 19}  # by the convolutions, three full layers behind them
TEXT_WIDTHS = {768: "Stable Diffusion 1 UNet", 1024: "Stable Diffusion 2 UNet", 2048: "Stable Diffusion XL UNet"}
INCEPTION_CONVOLUTIONS = (  # of Keras' inception_v3.py: height, width, channels in and out; the stem, and mixed 9
    *((3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (1, 1, 64, 80), (3, 3, 80, 192)),
    *((3, 3, 448, 384), (1, 3, 384, 384), (3, 1, 384, 384)),
)
TOKEN_WIDTHS = (768, 1024, 1280)  # of the text encoders of Stable Diffusion


def refined(family: str, tensors: Sequence[Tensor]) -> str:
    """Return the family that names tell, closer where shapes tell more; "" where they speak against it."""
    refine = REFINING.get(family)
    return refine(tensors) if refine is not None else family


def _bert(tensors: Sequence[Tensor]) -> str:
    rows = (tensor.shape[:1] for tensor in tensors if tensor.name.endswith("position_embeddings.weight"))
    return "RoBERTa" if (ROBERTA_POSITIONS,) in rows else "BERT"


def _gpt2(tensors: Sequence[Tensor]) -> str:
    """StarCoder's heads share keys and values, where GPT-2 makes three equal parts at once."""
    shapes = [tensor.shape for tensor in tensors if tensor.name.endswith("attn.c_attn.weight")]
    few_keys = any(len(shape) == 2 and max(shape) != 3 * min(shape) for shape in shapes)
    return "GPT-BigCode" if few_keys else "GPT-2"


def _resnet(tensors: Sequence[Tensor]) -> str:
    """Return the ResNet with its depth, where the blocks of its four stages are a known one's.

    The first 3 × 3 of a block of three tells ResNeXt (in groups) and the wide ones (twice 64 channels) apart.
    """
    blocks: dict[str, set[str]] = {}
    bottleneck, kind = False, "ResNet"
    for tensor in tensors:
        met = re.search(r"(?:^|\.)layer([1-4])\.([0-9]{1,6})\.conv([0-9])\.weight$", tensor.name)
        if met:
            blocks.setdefault(met[1], set()).add(met[2])
            bottleneck |= met[3] == "3"
        if tensor.name.endswith("layer1.0.conv2.weight") and len(tensor.shape) == 4:
            grouped, wide = tensor.shape[0] != tensor.shape[1], tensor.shape[:2] == (128, 128)
            kind = "ResNeXt" if grouped else "Wide ResNet" if wide else "ResNet"
    counts = tuple(len(blocks.get(stage, ())) for stage in "1234")
    depth = RESNET_DEPTHS.get((counts, bottleneck))
    return f"{kind}-{depth}" if depth and (bottleneck or kind == "ResNet") else "ResNet"


def _vgg(tensors: Sequence[Tensor]) -> str:
    """Return VGG with its depth, or AlexNet, by the first layers; any small network calls its parts by these names."""
    convolutions = [
        tensor.shape
        for tensor in tensors
        if re.search(r"(?:^|\.)features\.[0-9]{1,3}\.weight$", tensor.name) and len(tensor.shape) == 4
    ]
    if len(convolutions) == 5 and convolutions[0][1:] == (3, 11, 11):
        return "AlexNet"
    if convolutions and convolutions[0] == (64, 3, 3, 3) and convolutions[-1] == (512, 512, 3, 3):
        depth = VGG_DEPTHS.get(len(convolutions))
        return f"VGG-{depth}" if depth else ""
    return ""


def _unet(tensors: Sequence[Tensor]) -> str:
    """Return which Stable Diffusion by the width of the text that its attention reads."""
    for tensor in tensors:
        if tensor.name.endswith("attn2.to_k.weight") and len(tensor.shape) == 2:
            return TEXT_WIDTHS.get(tensor.shape[1], "Stable Diffusion UNet")
    return "Stable Diffusion UNet"


REFINING: Final[Mapping[str, Refine]] = {
    "BERT": _bert,
    "GPT-2": _gpt2,
    "ResNet": _resnet,
    "ResNet backbone": lambda tensors: f"{_resnet(tensors)} backbone",
    "VGG or AlexNet": _vgg,
    "Stable Diffusion UNet": _unet,
}


def by_shapes_alone(tensors: Sequence[Tensor]) -> str:
    """Return the family of a file whose names are a user's own words, or bare numbers.

    A textual inversion, one token a vector; Keras' Inception v3, which names its layers `conv2d_1` to `conv2d_94`.
    """
    if _has_stem_of_inception({tensor.shape for tensor in tensors}):
        return "Inception v3"
    if len(tensors) > 1 and {tensor.name for tensor in tensors} == {"clip_l", "clip_g"}:
        return "Textual inversion"
    if len(tensors) != 1 or not re.fullmatch(r"<[^<>]{1,100}>", tensors[0].name):
        return ""
    shape = tensors[0].shape
    return "Textual inversion" if 1 <= len(shape) <= 2 and shape[-1] in TOKEN_WIDTHS else ""


def _has_stem_of_inception(shapes: Container[tuple[int, ...]]) -> bool:
    """Tell whether the convolutions are there with which Inception v3 begins and ends, as Keras or as ONNX has them."""
    as_onnx = [(outputs, inputs, high, wide) for high, wide, inputs, outputs in INCEPTION_CONVOLUTIONS]
    return any(all(shape in shapes for shape in each) for each in (INCEPTION_CONVOLUTIONS, as_onnx))
