"""Names: which family the names of a file's tensors tell, or none.

What libraries put around a whole model (`module.`, `_orig_mod.`, `state_dict.`, …) is taken off here, once and for all
rules; numbers become "#", and the slashes and colons of TensorFlow become dots.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from itertools import takewhile
from typing import Final, TypeVar

from carver.identify.family_table import RULES, Rule

Told = TypeVar("Told")

MAX_COLLAPSED = 20_000  # different names but for their numbers; a model has hundreds
NAMES_KEPT = 1 << 16
MAX_NAME_CHARS = 1024  # looked at and kept: a hostile header has names of megabytes
MIN_SHARE = 2 / 3  # of the names lie where a family's do: no one of several models is the file's family
NUMBERS = re.compile(r"[0-9]+")
NUMBERED = re.compile(  # as TensorFlow numbers its layers
    r"(^|[./])(layer|block|group|inner_group|unit|Branch|expanded_conv|BoxPredictor)_(?=[0-9]+(?:[./:]|$))"
)
INSERTED: Final = frozenset(  # by torch.compile, FSDP, activation checkpointing and PEFT, anywhere in a name
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")
)
WRAPPERS: Final = frozenset((
    *("module", "model", "base_model", "net", "network", "state_dict", "model_state_dict", "model_weights", "params"),
    *("ema", "model_ema", "ema_model", "params_ema", "generator", "student", "teacher", "weights", "_model"),
))  # fmt: skip
HALVES = (["encoder"], ["decoder"])  # what stands beside one is the same model's
NO_PART_OF_A_MODEL = re.compile(
    r"(?:^|[./_])(?:running_mean|running_var|moving_mean|moving_variance|num_batches_tracked"
    r"|exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|adam_[mv]|Adam|Adam_1|Momentum"
    r"|optimizer|optimizer_states?|optimizer_state_dict|optimizer_weights|\.OPTIMIZER_SLOT|state\.[0-9]+\.step)(?:[./_:]|$)"
)


def remembered(tell: Callable[[str], Told]) -> Callable[[str], Told]:
    """Keep what is told of names: those of a model are the same in all its checkpoints."""
    kept = lru_cache(maxsize=NAMES_KEPT)(tell)
    return wraps(tell)(lambda name: kept(name[:MAX_NAME_CHARS]))


@remembered
def is_state(name: str) -> bool:
    """Tell what training keeps beside weights: running statistics, an optimizer's moments."""
    return NO_PART_OF_A_MODEL.search(name) is not None


def family_of_names(names: Iterable[str]) -> str:
    """Return the family whose rule fits, or ""."""
    counts: Counter[str] = Counter()
    state = set()
    for name in names:
        if is_state(name):
            state.add(collapsed(name))
        else:
            counts[collapsed(name)] += 1
        if len(counts) + len(state) > MAX_COLLAPSED:
            return ""
    for name in state:  # they tell that there is an optimizer, and count for nothing else
        counts.setdefault(name, 0)
    return _first_rule(tuple(sorted(counts.items())))


@remembered
def collapsed(name: str) -> str:
    """Return a name with its numbers as "#" and its parts divided by dots, without what libraries put in or before it.

    `model` before a number is no wrapper, but Ultralytics' own list of layers.
    """
    plain = NUMBERED.sub(r"\1\2.", name.replace("_._", ".")).replace("/", ".").replace(":", ".")
    parts = [part for part in NUMBERS.sub("#", plain).split(".") if part not in INSERTED]
    first = 0
    while first < len(parts) - 1 and parts[first] in WRAPPERS and parts[first + 1] != "#":
        first += 1
    return ".".join(parts[first:])


@lru_cache(maxsize=64)
def _first_rule(counts: tuple[tuple[str, int], ...]) -> str:
    whole = "\n".join(f".{name}." for name, _ in counts)
    shared = _shared([name for name, count in counts if count])
    rooted = "".join(f"\n.{name.removeprefix(shared)}." for name, _ in counts)
    return next((rule.family for rule in RULES if _fits(rule, whole, rooted) and _is_most(rule, counts)), "")


def _fits(rule: Rule, whole: str, rooted: str) -> bool:
    return all(_has(run, whole, rooted) for run in rule.has) and not any(f".{run}." in whole for run in rule.lacks)


def _has(run: str, whole: str, rooted: str) -> bool:
    return f"\n.{run[1:]}." in rooted if run[0] == "^" else f".{run}." in whole


def _shared(names: Sequence[str]) -> str:
    """Return what all names begin with, up to a number: a model kept under a name of its own."""
    shared = _common([name.split(".")[:-1] for name in names]) if len(names) > 1 else []
    if "#" in shared:
        shared = shared[: max(0, shared.index("#") - 1)]
    return "".join(f"{part}." for part in shared)


def _is_most(rule: Rule, counts: Sequence[tuple[str, int]]) -> bool:
    """Tell whether most names lie where the rule's do: below what stands before all of its runs."""
    if rule.alone:
        return not any(count for _, count in counts)
    if rule.part or any(run[0] == "^" for run in rule.has):
        return True
    marked = [(f".{name}.", count) for name, count in counts]
    before = [next(name.partition(f".{run}.")[0] for name, _ in marked if f".{run}." in name) for run in rule.has]
    parts = _common([prefix.split(".") for prefix in before])
    below = ".".join(parts[:-1] if parts[-1:] in HALVES else parts)
    there = sum(count for name, count in marked if name.startswith(f"{below}."))
    return there >= MIN_SHARE * sum(count for _, count in marked)


def _common(paths: Sequence[list[str]]) -> list[str]:
    """Return the parts with which all paths begin."""
    first, last = min(paths), max(paths)
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return [part for part, _ in alike]
