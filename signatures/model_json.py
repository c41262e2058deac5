"""Small JSON files beside weights, known by their keys: configurations, tokenizers, a trainer's state.

Source of the keys: what transformers, tokenizers, diffusers, PEFT, sentence-transformers and Meta's Llama write. Each
kind is named after its file, so that the file recovers its name, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imaging.window import Window
from signatures._json_text import probes, read_object
from signatures._ntfs_resident import PATTERNS, resident
from signatures.format import Format
from signatures.verdict import Grade, Verdict, rejected

MAX_TEXT_CHARACTERS = 200
MAX_LISTED = 8
MIN_VOCABULARY = 1000
ADDED_TOKENS = re.compile(r'\{\s*"<[^"]*>"\s*:\s*[0-9]')
SPECIAL_TOKENS = frozenset(
    f"{word}_token" for word in ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "image", "boi", "eoi")
) | {"additional_special_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of file.

    Attributes:
        name: the file's own name.
        needs: a file has all keys of one of these, each of the type given.
        tells: keys that are kept as facts.
    """

    name: str
    needs: tuple[Mapping[str, type | tuple[type, ...]], ...]
    tells: tuple[str, ...] = ()


SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "d_model", "num_layers", "n_embd", "n_embed", "n_layer", "n_head"),
)
KINDS: Final = (  # the first that fits counts
    Kind(
        name="trainer_state.json",
        needs=({"global_step": int, "log_history": list},),
        tells=("global_step", "max_steps", "epoch", "best_metric", "best_model_checkpoint"),
    ),
    Kind(
        name="adapter_config.json",
        needs=({"peft_type": str},),
        tells=("peft_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "task_type"),
    ),
    Kind(name="model_index.json", needs=({"_class_name": str, "_diffusers_version": str, "scheduler": list},)),
    Kind(
        name="scheduler_config.json",
        needs=({"_class_name": str, "_diffusers_version": str, "num_train_timesteps": int},),
        tells=("_class_name",),
    ),
    Kind(
        name="config.json",
        needs=({"model_type": str}, {"_class_name": str, "_diffusers_version": str}, {"architectures": list}),
        tells=("model_type", "architectures", "_name_or_path", "_class_name", "torch_dtype", "dtype", *SIZES),
    ),
    Kind(
        name="tokenizer.json",
        needs=({"added_tokens": list, "model": dict, "version": str},),
        tells=("version",),
    ),
    Kind(
        name="tokenizer_config.json",
        needs=({"tokenizer_class": str}, {"added_tokens_decoder": dict}, {"model_max_length": (int, float)}),
        tells=("tokenizer_class", "name_or_path", "model_max_length"),
    ),
    Kind(
        name="preprocessor_config.json",
        needs=({"image_processor_type": str}, {"feature_extractor_type": str}, {"feature_size": int}),
        tells=("image_processor_type", "feature_extractor_type", "processor_class"),
    ),
    Kind(name="processor_config.json", needs=({"processor_class": str},), tells=("processor_class",)),
    Kind(
        name="generation_config.json",
        needs=(
            {"transformers_version": str, "eos_token_id": (int, list)},
            {"transformers_version": str, "bos_token_id": int},
            {"transformers_version": str, "do_sample": bool},
        ),
    ),
    Kind(name="quantize_config.json", needs=({"bits": int, "group_size": int},), tells=("bits", "group_size")),
    Kind(
        name="params.json",
        needs=({"dim": int, "n_layers": int, "n_heads": int},),
        tells=("dim", "n_layers", "n_heads", "vocab_size"),
    ),
    Kind(name="config_sentence_transformers.json", needs=({"__version__": dict, "prompts": dict},)),
    Kind(name="chat_template.json", needs=({"chat_template": str},)),
)
WORDS: Final = tuple(
    dict.fromkeys(f'"{key}"' for kind in KINDS for need in kind.needs for key in need if key != "version")
)
SPECIAL_WORDS: Final = tuple(f'"{key}"' for key in sorted(SPECIAL_TOKENS))


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start."""
    read = read_object(window, _may_be)
    if isinstance(read, str):
        return rejected(read, at_bytes=0)
    kind = next((kind for kind in KINDS if any(_has(read.value, need) for need in kind.needs)), None)
    if kind is not None:
        name, told = kind.name, _told(read.value, kind)
    elif _is_special_tokens(read.value):
        name, told = "special_tokens_map.json", {}
    elif _is_added_tokens(read.value):
        name, told = "added_tokens.json", {}
    elif _is_vocabulary(read.value):
        name, told = "vocab.json", {"vocab_size": len(read.value)}
    else:
        return rejected("no-known-keys", at_bytes=0)
    facts = {"kind": name, "name": name.removesuffix(".json"), "name_source": "keys", **told}
    return Verdict(grade=Grade.CONSISTENT, size_bytes=read.size_bytes, facts=facts)


def _may_be(look: str) -> bool:
    """Tell by the first 64 KiB whether reading on is worth while; a vocabulary has nothing but pairs."""
    known = any(word in look for word in WORDS + SPECIAL_WORDS)
    return known or _looks_like_vocabulary(look) or ADDED_TOKENS.match(look) is not None


def _looks_like_vocabulary(look: str) -> bool:
    """Tell whether nearly all commas stand between pairs: a few are words themselves."""
    pairs = look.count('":')
    return pairs >= MIN_VOCABULARY and pairs * 10 >= look.count(",") * 9


def _has(value: Mapping[str, Any], need: Mapping[str, type | tuple[type, ...]]) -> bool:
    return all(isinstance(value.get(key), kind) for key, kind in need.items())


def _is_special_tokens(value: Mapping[str, Any]) -> bool:
    return len(value) > 1 and set(value) <= SPECIAL_TOKENS


def _is_added_tokens(value: Mapping[str, Any]) -> bool:
    """Tell whether it numbers marks like <|im_end|> on from the end of a vocabulary."""
    numbers = sorted(number for number in value.values() if type(number) is int)
    marked = bool(numbers) and all(key[:1] == "<" and key[-1:] == ">" for key in value)
    return marked and len(numbers) == len(value) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _is_vocabulary(value: Mapping[str, Any]) -> bool:
    """Tell whether it numbers its keys from 0 on, each once: `vocab.json` of a byte-pair tokenizer."""
    numbers = [number for number in value.values() if type(number) is int]
    return len(value) >= MIN_VOCABULARY and len(numbers) == len(value) and sorted(numbers) == list(range(len(value)))


def _told(value: Mapping[str, Any], kind: Kind) -> dict[str, object]:
    facts = {key: _plain(value[key]) for key in kind.tells if _plain(value.get(key)) is not None}
    if kind.name == "config.json":  # of a model of several kinds of input, the text model's sizes count
        inner = value.get("text_config")
        inner = inner if isinstance(inner, dict) else {}
        facts |= {key: inner[key] for key in SIZES if key not in facts and type(inner.get(key)) is int}
    elif kind.name == "tokenizer.json":
        model = value["model"]
        facts["tokenizer"] = str(model.get("type", ""))[:MAX_TEXT_CHARACTERS]
        facts["vocab_size"] = len(model["vocab"]) if isinstance(model.get("vocab"), list | dict) else 0
    return facts


def _plain(value: object) -> object:
    """Return what a fact may hold: a number that JSON can hold again, a short text, a few texts; None for the rest."""
    if isinstance(value, str):
        return value[:MAX_TEXT_CHARACTERS]
    if isinstance(value, list):
        return [text[:MAX_TEXT_CHARACTERS] for text in value[:MAX_LISTED] if isinstance(text, str)]
    if isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    return None


FORMAT = Format(
    name="model_json",
    suffix=".json",
    title="Configuration, tokenizer or trainer's state beside weights (side file)",
    patterns=PATTERNS,
    probes=probes(),
    layouts=resident(lambda head: head.startswith(b"{")),
    validate=validate,
    proves="nothing; it is whole JSON with the keys of its kind",
    side=True,
)
