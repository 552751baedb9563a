"""What params.json says of the model: each field checked, and what the model does not have refused.

Weights tell most sizes; what params.json leaves out is None here and comes from them. An argument that this
module does not know could change what the model computes, so it is refused rather than passed over.
"""

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from memedit.errors import UsageError
from memedit.modeling.lingua.checkpoint import PARAMS_FILE

MEMORY_ARGUMENTS = "productkey_args"
# Training only.
_WITHOUT_EFFECT = {"seed", "init_base_std", "init_std_factor"}
_MEMORY_WITHOUT_EFFECT = {"value_fixed_lr"}
# What else these arguments can be changes the forward.
_SWITCHED_OFF = ("sliding_window",)
_MEMORY_SWITCHED_OFF = ("mem_gated", "peer_variant")


@dataclass(frozen=True)
class MemoryParams:
    """The memory's arguments; None = params.json does not say.

    Attributes:
        layers: blocks that carry a memory layer, ascending.
        mem_n_keys: sub-keys per half.
        mem_heads: look-ups per token and layer.
        mem_knn: slots per head and token.
        mem_k_dim: width of a head's query.
        mem_v_dim: width of a value; None = that of the model, too.
        mem_share_values: one value table for all layers.
        swilu_projection: whether the output is gated.
    """

    layers: tuple[int, ...] | None
    mem_n_keys: int | None
    mem_heads: int | None
    mem_knn: int
    mem_k_dim: int | None
    mem_v_dim: int | None
    mem_share_values: bool | None
    swilu_projection: bool | None


@dataclass(frozen=True)
class LinguaParams:
    """The model's arguments; None = params.json does not say.

    Attributes:
        dim, n_layers, n_heads, head_dim, n_kv_heads, vocab_size: sizes.
        ffn_dim_multiplier, multiple_of: of the FFN's hidden size.
        norm_eps, rope_theta: as they are, 1e-5 and 10,000 where not given.
        weight_tying: whether embedding and output are one matrix.
        max_seqlen: tokens that the model was trained on at a time.
        memory: the memory's arguments.
    """

    dim: int | None
    n_layers: int | None
    n_heads: int | None
    head_dim: int | None
    n_kv_heads: int | None
    vocab_size: int | None
    ffn_dim_multiplier: float | None
    multiple_of: int | None
    norm_eps: float
    rope_theta: float
    weight_tying: bool | None
    max_seqlen: int | None
    memory: MemoryParams


def lingua_params(params: Mapping[str, Any]) -> LinguaParams:
    """Check the model arguments.

    Args:
        params: as in params.json.

    Raises:
        UsageError: when an argument is unknown, has a value that it cannot have, or asks for something that
            the memory-layer Llama does not have.
    """
    given = {key: value for key, value in params.items() if key != MEMORY_ARGUMENTS}
    known = {*LinguaParams.__dataclass_fields__} - {"memory"}
    _require_known(params, {*known, MEMORY_ARGUMENTS, *_SWITCHED_OFF}, _WITHOUT_EFFECT, "")
    _require_off(given, _SWITCHED_OFF, "")
    return LinguaParams(
        dim=_count(given, "dim"),
        n_layers=_count(given, "n_layers"),
        n_heads=_count(given, "n_heads"),
        head_dim=_count(given, "head_dim"),
        n_kv_heads=_count(given, "n_kv_heads"),
        # Lingua writes -1 where the tokenizer decides.
        vocab_size=_count(given, "vocab_size", none_at=-1),
        ffn_dim_multiplier=_number(given, "ffn_dim_multiplier"),
        multiple_of=_count(given, "multiple_of"),
        norm_eps=_number(given, "norm_eps") or 1e-5,
        rope_theta=_number(given, "rope_theta") or 10_000.0,
        weight_tying=_flag(given, "weight_tying"),
        max_seqlen=_count(given, "max_seqlen"),
        memory=_memory_params(params.get(MEMORY_ARGUMENTS)),
    )


def _memory_params(given: Any) -> MemoryParams:
    where = f"{MEMORY_ARGUMENTS}."
    if not isinstance(given, dict):
        raise _wrong(MEMORY_ARGUMENTS, given, "an object with the memory's arguments (mem_knn at least)")
    known = {*MemoryParams.__dataclass_fields__, "is_enabled", *_MEMORY_SWITCHED_OFF}
    _require_known(given, known, _MEMORY_WITHOUT_EFFECT, where)
    _require_off(given, _MEMORY_SWITCHED_OFF, where)
    if _flag(given, "is_enabled", where) is False:
        raise _wrong(f"{where}is_enabled", False, "true, or nothing")  # noqa: FBT003 (what was got)
    top_k = _count(given, "mem_knn", where)
    if top_k is None:
        raise _wrong(f"{where}mem_knn", None, "the number of slots per head: no weight tells it")
    return MemoryParams(
        layers=_layers(given.get("layers"), where),
        mem_n_keys=_count(given, "mem_n_keys", where),
        mem_heads=_count(given, "mem_heads", where),
        mem_knn=top_k,
        mem_k_dim=_count(given, "mem_k_dim", where),
        mem_v_dim=_count(given, "mem_v_dim", where, none_at=-1),
        mem_share_values=_flag(given, "mem_share_values", where),
        swilu_projection=_flag(given, "swilu_projection", where),
    )


def _layers(given: Any, where: str) -> tuple[int, ...] | None:
    """A text like "4,12,20", or a list; an empty one says nothing."""
    if not given:
        return None
    parts = given.split(",") if isinstance(given, str) else given
    try:
        layers = tuple(sorted(int(part) for part in parts))
    except (TypeError, ValueError):
        layers = (-1,)
    if layers[0] < 0 or len(set(layers)) < len(layers):
        raise _wrong(f"{where}layers", given, 'block indices, each once, like "4,12,20"')
    return layers


def _require_known(given: Mapping[str, Any], known: set[str], without_effect: set[str], where: str) -> None:
    unknown = sorted(set(given) - known - without_effect)
    if not unknown:
        return
    listed = ", ".join(f"{where}{key}{_suggestion(key, known - set(given))}" for key in unknown)
    raise UsageError(
        f"{PARAMS_FILE}: unknown arguments: {listed}",
        remedy="They may change what the model computes. Correct them, or take out those that do not.",
    )


def _suggestion(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.7)
    return f" (did you mean {close[0]}?)" if close else ""


def _require_off(given: Mapping[str, Any], names: Collection[str], where: str) -> None:
    for name in names:
        if given.get(name) not in (None, False):
            raise UsageError(
                f"{PARAMS_FILE}: {where}{name}: got {given[name]!r}, expected none",
                remedy="The memory-layer Llama has no such part, so this checkpoint cannot be converted.",
            )


def _wrong(name: str, got: object, expected: str) -> UsageError:
    return UsageError(
        f"{PARAMS_FILE}: {name}: got {got!r}, expected {expected}",
        remedy="Correct params.json, or write it again where the checkpoint was made.",
    )


def _count(given: Mapping[str, Any], key: str, where: str = "", none_at: int | None = None) -> int | None:
    value = given.get(key)
    if value is None or (none_at is not None and value == none_at):
        return None
    return int(
        _checked(where + key, value, lambda got: isinstance(got, int) and got >= 1, "a positive integer")
    )


def _number(given: Mapping[str, Any], key: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None

    def positive(got: Any) -> bool:
        return isinstance(got, (int, float)) and math.isfinite(got) and got > 0

    return float(_checked(key, value, positive, "a positive number"))


def _flag(given: Mapping[str, Any], key: str, where: str = "") -> bool | None:
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise _wrong(where + key, value, "true or false")
    return value


def _checked(name: str, value: Any, fits: Callable[[Any], bool], expected: str) -> Any:
    if isinstance(value, bool) or not fits(value):
        raise _wrong(name, value, expected)
    return value
