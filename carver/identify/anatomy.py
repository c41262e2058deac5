"""Anatomy: what kind of model a file's tensors make up. Family, parameters, layers, sizes; from names and shapes alone.

A family is what the names are known to belong to; where they are not known it is "" and the reports say "unknown".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from carver.identify.family_table import GGUF_ARCHITECTURES, RULES, WORDS, Rule
from signatures.tensors import Tensor

MAX_COLLAPSED = 20_000  # different names but for their numbers; a model has hundreds
NAMES_KEPT = 1 << 16
NUMBERS = re.compile(r"[0-9]+")
LAYER = re.compile(r"(?:^|[._])(?:layers?|h|blk|blocks?|resblocks|encoder_layer)[._]([0-9]{1,6})[._]")
NOT_WEIGHTS = re.compile(
    r"(?:^|[./_])(?:running_mean|running_var|num_batches_tracked|position_ids|inv_freq|exp_avg|exp_avg_sq"
    r"|momentum_buffer|optimizer|optimizer_states?|optimizer_weights)(?:[./_]|$)"
)
WHOLE_NUMBERS = frozenset(("int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"))
PACKING_DTYPES = WHOLE_NUMBERS | {"uint8", "int8"}
NUMBER_KINDS = ("float", "bfloat", "complex", "int", "uint", "q", "iq", "tq", "mxfp", "nvfp")
PACKED = re.compile(r"(?:^|\.)(?:qweight|qzeros|weight_packed)$|\.(?:absmax|quant_state\.\S+)$")
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "token_embd", "tok_embeddings", "shared", "embed_in")
RESNET_DEPTHS: Mapping[tuple[tuple[int, ...], bool], int] = {  # blocks a stage, with bottlenecks
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
DATA_PRODUCERS = ("MATLAB", "netCDF", "PyTables", "AnnData")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What the tensors of a file, or of the shards of a model, come to.

    Attributes:
        family: e.g. "Llama-like"; "" when the names are not known.
        family_source: "tensor names", "general.architecture", "name", "description"; "" likewise.
        parameters: elements of all weights, shared ones once; without optimizer state and running statistics.
        uncounted: there are more weights than `parameters` tells: several in an element, or constants of nodes.
        dtypes: elements by dtype, of the weights.
        layers: the numbers of its repeated layers, ascending.
        hidden_size: columns of the token embedding; None without one.
        vocabulary: its rows; likewise.
    """

    family: str
    family_source: str
    parameters: int
    uncounted: bool
    dtypes: Mapping[str, int]
    layers: tuple[int, ...]
    hidden_size: int | None
    vocabulary: int | None


def examine(tensors: Sequence[Tensor], facts: Mapping[str, object]) -> Anatomy:
    """Return the anatomy of tensors; `facts` are the format's own about the file."""
    weights = [tensor for tensor in tensors if is_weight(tensor)]
    family, source = _family(tensors, facts)
    vocabulary, hidden_size = _embedding(weights)
    dtypes: Counter[str] = Counter()
    for tensor in _distinct(weights):
        dtypes[tensor.dtype] += math.prod(tensor.shape)
    return Anatomy(
        family=family,
        family_source=source,
        parameters=dtypes.total(),
        uncounted=_in_nodes(weights, facts) or any(_is_packed(tensor) for tensor in weights),
        dtypes=dict(sorted(dtypes.items())),
        layers=tuple(sorted({layer for tensor in tensors if (layer := _layer(tensor.name)) is not None})),
        hidden_size=hidden_size,
        vocabulary=vocabulary,
    )


def is_weight(tensor: Tensor) -> bool:
    """Tell weights from counters, indices, running statistics and optimizer state."""
    if not tensor.dtype.startswith(NUMBER_KINDS) or _is_state(tensor.name):
        return False
    return tensor.dtype not in WHOLE_NUMBERS or _is_packed(tensor)


# the names of a model are the same in all its checkpoints: what they tell is found out once


@lru_cache(maxsize=NAMES_KEPT)
def _is_state(name: str) -> bool:
    return NOT_WEIGHTS.search(name) is not None


@lru_cache(maxsize=NAMES_KEPT)
def _layer(name: str) -> int | None:
    met = LAYER.search(name)
    return int(met[1]) if met else None


@lru_cache(maxsize=NAMES_KEPT)
def _collapsed(name: str) -> str:
    return NUMBERS.sub("#", name.replace("/", ".").replace(":", "."))


def _is_packed(tensor: Tensor) -> bool:
    return tensor.dtype in PACKING_DTYPES and PACKED.search(tensor.name) is not None


def _in_nodes(weights: Iterable[Tensor], facts: Mapping[str, object]) -> bool:
    """Tell whether an ONNX graph holds more than a hundredth of its weights as constants of nodes."""
    nested_bytes = facts.get("nested_tensor_bytes")
    return isinstance(nested_bytes, int) and nested_bytes * 100 > sum(tensor.size_bytes for tensor in weights)


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return each stored array once, also where several names share it."""
    by_place = {tensor.layout or (tensor.name,): tensor for tensor in tensors}
    return list(by_place.values())


def _family(tensors: Sequence[Tensor], facts: Mapping[str, object]) -> tuple[str, str]:
    producer = facts.get("producer")
    if isinstance(producer, str) and producer.startswith(DATA_PRODUCERS):
        return "", ""
    architecture = facts.get("architecture")
    if isinstance(architecture, str) and architecture:
        return GGUF_ARCHITECTURES.get(architecture, architecture), "general.architecture"
    family = family_of_names(tensor.name for tensor in tensors)
    if family.startswith("LoRA"):
        return family + _adapted(tensors), "tensor names"
    if family == "BERT" and _has_rows(tensors, "position_embeddings.weight", 514):
        family = "RoBERTa"  # two more positions than BERT's 512: the padding's
    elif family == "GPT-2" and _has_few_keys(tensors):
        family = "GPT-BigCode"
    elif family == "ResNet":
        family = _resnet(tensors)
    if family:
        return family, "tensor names"
    return _by_own_name(facts)


def family_of_names(names: Iterable[str]) -> str:
    """Return the family whose rule fits, or ""."""
    collapsed: set[str] = set()
    for name in names:
        collapsed.add(_collapsed(name))
        if len(collapsed) > MAX_COLLAPSED:
            return ""
    return _first_rule("\n".join(f".{name}." for name in sorted(collapsed)))


@lru_cache(maxsize=256)
def _first_rule(text: str) -> str:
    return next((rule.family for rule in RULES if _fits(rule, text)), "")


def _fits(rule: Rule, text: str) -> bool:
    return all(f".{part}." in text for part in rule.has) and not any(f".{part}." in text for part in rule.lacks)


def _adapted(tensors: Iterable[Tensor]) -> str:
    """Return of what an adapter is one, by the names it adapts; " of …" or "".

    An adapter names a few of a layer's matrices only, so no rule fits it as a whole.
    """
    text = "\n".join(sorted({NUMBERS.sub("#", tensor.name) for tensor in tensors}))
    known = (
        ("unet_", "Stable Diffusion UNet"),
        ("unet.", "Stable Diffusion UNet"),
        (".h.#.attn.c_attn", "GPT-2"),
        (".attention.self.query", "BERT"),
        (".SelfAttention.q", "T5"),
        (".encoder_attn.q_proj", "BART-like or Whisper"),
        ("layers.#.self_attn.q_proj", "Llama-like"),
        ("layers.#.mlp.gate_proj", "Llama-like"),
    )
    return next((f" of {family}" for word, family in known if word in text), "")


def _has_rows(tensors: Iterable[Tensor], ending: str, rows: int) -> bool:
    return any(tensor.name.endswith(ending) and tensor.shape[:1] == (rows,) for tensor in tensors)


def _has_few_keys(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all heads share keys and values, as in StarCoder: GPT-2 makes three equal parts at once."""
    shapes = [tensor.shape for tensor in tensors if tensor.name.endswith("attn.c_attn.weight")]
    return any(len(shape) == 2 and max(shape) != 3 * min(shape) for shape in shapes)


def _resnet(tensors: Iterable[Tensor]) -> str:
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


def _by_own_name(facts: Mapping[str, object]) -> tuple[str, str]:
    """Return the family that the model's own name or description says, where the tensors' names say none."""
    metadata = facts.get("metadata")
    description = metadata.get("description") if isinstance(metadata, Mapping) else None
    for source, told in (("name", facts.get("name")), ("description", description)):
        plain = re.sub(r"[^a-z0-9]", "", told.lower()) if isinstance(told, str) else ""
        for word, family in WORDS:
            if word in plain:
                return family, source
    return "", ""


def _embedding(weights: Iterable[Tensor]) -> tuple[int | None, int | None]:
    """Return rows and columns of the token embedding, if there is one."""
    for tensor in weights:
        parts = tensor.name.split(".")
        if len(tensor.shape) == 2 and len(parts) > 1 and parts[-1] == "weight" and parts[-2] in EMBEDDINGS:
            return tensor.shape[0], tensor.shape[1]
    return None, None
