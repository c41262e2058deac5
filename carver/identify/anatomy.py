"""Anatomy: what kind of model a file's tensors make up. Family, parameters, layers, sizes; from names and shapes alone.

A family is what the names are known to belong to; where they are not known it is "" and the reports say "unknown".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from carver.identify.family_table import ADAPTED, GGUF_ARCHITECTURES, WORDS
from carver.identify.names import family_of_names, is_state, remembered
from carver.identify.shapes import by_shapes_alone, refined
from signatures.tensors import Tensor

NUMBERS = re.compile(r"[0-9]+")
LAYER = re.compile(r"(?:^|[./_])(?<!conv_)(?:layers?|h|blk|blocks?|resblocks|encoder_layer)[./_]+([0-9]{1,6})[./_]")
BUFFERS = re.compile(r"(?:^|[._])(?:position_ids|inv_freq|masked_bias)$|(?:^|\.)state\.[0-9]+\.step$")
METRICS = re.compile(r"^callbacks\.|(?:^|[._])(?:best|loss|acc|accuracy|score)(?:[._0-9]|$)")  # of no dimension
RNG_STATES = ((5056,), (5048,), (16,))  # bytes of torch.get_rng_state(): a processor's, that before 1.6, a GPU's
MASKS = (".attn.bias", ".attention.bias")  # GPT-2's and its kin's lower triangles of ones
WHOLE_NUMBERS = frozenset(("int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"))
PACKING_DTYPES = WHOLE_NUMBERS | {"uint8", "int8"}
NUMBER_KINDS = ("float", "bfloat", "complex", "int", "uint", "q", "iq", "tq", "mxfp", "nvfp")
PACKED = re.compile(r"(?:^|\.)(?:qweight|qzeros|weight_packed)$|\.(?:absmax|quant_state\.\S+)$")
EMBEDDINGS = frozenset((
    *("embed_tokens", "wte", "word_embeddings", "word_embedding", "token_embd", "tok_embeddings", "shared", "embed_in"),
    *("token_embedding", "tokens_embed", "embeddings"),
))  # fmt: skip
ADAPTERS = ("adapter", "adapter (PEFT)", "adapter (kohya)", "adapter (diffusers)", "adapter (llama.cpp)")
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
    if not tensor.dtype.startswith(NUMBER_KINDS) or is_state(tensor.name) or _is_buffer(tensor):
        return False
    return tensor.dtype not in WHOLE_NUMBERS or _is_packed(tensor)


@remembered
def _layer(name: str) -> int | None:
    met = LAYER.search(name)
    return int(met[1]) if met else None


def _is_buffer(tensor: Tensor) -> bool:
    """Tell what is saved and not learnt: positions, masks, how good the model was, where random numbers were."""
    shape = tensor.shape
    if shape == () and METRICS.search(tensor.name):
        return True
    if tensor.dtype == "uint8" and shape in RNG_STATES and not _is_packed(tensor):
        return True
    mask = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3] and f".{tensor.name}".endswith(MASKS)
    return mask or BUFFERS.search(tensor.name) is not None


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
    if family.endswith(ADAPTERS):
        return family + _adapted(tensors), "tensor names"
    family = refined(family, tensors) if family else by_shapes_alone(tensors)
    return (family, "tensor names") if family else _by_own_name(facts)


def _adapted(tensors: Iterable[Tensor]) -> str:
    """Return of what an adapter is one, by the names it adapts; " of …" or "".

    An adapter names a few of a layer's matrices only, so no rule fits it as a whole.
    """
    text = "\n".join(sorted({NUMBERS.sub("#", tensor.name) for tensor in tensors}))
    return next((f" of {family}" for word, family in ADAPTED if word in text), "")


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
