"""Tensor names and shapes as libraries write them, small; and the files that would hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from carver.recovery import CarvedFile
from imaging.extent import span
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Grade, LayoutBasis

Spec = tuple[str, tuple[int, ...]]
WIDTH, FEED, WORDS = 64, 172, 320


def llama(layers: Iterable[int] = range(2), *, first: bool = True, last: bool = True) -> list[Spec]:
    """Return a Llama's tensors, or those of a shard with these layers."""
    specs: list[Spec] = [("model.embed_tokens.weight", (WORDS, WIDTH))] if first else []
    for layer in layers:
        stem = f"model.layers.{layer}"
        specs += [(f"{stem}.self_attn.{one}_proj.weight", (WIDTH, WIDTH)) for one in "qkvo"]
        specs += [(f"{stem}.mlp.{one}_proj.weight", (FEED, WIDTH)) for one in ("gate", "up")]
        specs += [(f"{stem}.mlp.down_proj.weight", (WIDTH, FEED)), (f"{stem}.input_layernorm.weight", (WIDTH,))]
        specs += [(f"{stem}.post_attention_layernorm.weight", (WIDTH,))]
    return [*specs, *([("model.norm.weight", (WIDTH,)), ("lm_head.weight", (WORDS, WIDTH))] if last else [])]


def tensors(specs: Sequence[Spec], dtype: str = "float16") -> tuple[Tensor, ...]:
    """Return tensors that lie one after the other."""
    made, at = [], 0
    for name, shape in specs:
        size_bytes = 2
        for extent in shape:
            size_bytes *= extent
        layout = (span(at, at + size_bytes),) if size_bytes else ()
        made.append(Tensor(name=name, dtype=dtype, shape=shape, layout=layout))
        at += size_bytes
    return tuple(made)


def a_file(
    path: str,
    held: Sequence[Tensor] = (),
    *,
    at_bytes: int = 0,
    form: str = "safetensors",
    content: str = "",
    grade: Grade = Grade.CONSISTENT,
    facts: Mapping[str, object] | None = None,
    parent: str | None = None,
    side: bool = False,
    name_source: str = "offset",
) -> CarvedFile:
    """Return a recovered file; two of the same `content` have the same hash."""
    return CarvedFile(
        path=path,
        format=form,
        grade=grade,
        layout_basis=LayoutBasis.CONTIGUOUS,
        data_evidence=DataEvidence.NONE,
        size_bytes=4096,
        sha256=hashlib.sha256((content or path).encode()).hexdigest(),
        layout=(span(at_bytes, at_bytes + 4096),),
        parent=parent,
        tensors=tuple(held),
        facts=facts or {},
        side=side,
        name_source=name_source,
    )
