"""The configuration of a checkpoint: what the weights' shapes tell, held against what params.json says.

Every size that a shape tells is taken from it; where params.json names it too, the two must agree, so that a
params.json of another checkpoint is noticed. Only what no shape tells (top-k, RoPE's base, the norms'
epsilon) is taken from params.json alone.
"""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from memedit.errors import UsageError
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.lingua.checkpoint import PARAMS_FILE, WEIGHTS_FILE
from memedit.modeling.lingua.params import MEMORY_ARGUMENTS, LinguaParams, MemoryParams

Shapes = Mapping[str, tuple[int, ...]]
_LAYER = re.compile(r"layers\.(\d+)\.")
_MEMORY = re.compile(r"layers\.(\d+)\.feed_forward\.keys")
_DEFAULT_MULTIPLE = 256


def lingua_config(params: LinguaParams, shapes: Shapes) -> MemoryLlamaConfig:
    """Find out what model a checkpoint holds.

    Args:
        params: what params.json says.
        shapes: the weights' shapes by name.

    Raises:
        UsageError: when there is no memory layer, a weight that tells a size is missing, or params.json and
            the shapes disagree; the message names argument and weight.
    """
    embedding = "tok_embeddings.weight"
    vocab_size, dim = shape_of(shapes, embedding, 2)
    _agree("dim", params.dim, dim, embedding)
    _agree("vocab_size", params.vocab_size, vocab_size, embedding)
    num_layers = 1 + max((int(found[1]) for name in shapes if (found := _LAYER.match(name))), default=-1)
    _agree("n_layers", params.n_layers, num_layers, "the layers' names")
    memory = _memory_fields(params.memory, shapes, dim)
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": dim,
        "num_hidden_layers": num_layers,
        "intermediate_size": _ffn_size(params, shapes, dim, num_layers, memory["memory_layers"]),
        "rms_norm_eps": params.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": params.rope_theta},
        "tie_word_embeddings": _is_tied(params, shapes),
        # A tokenizer names these, if one is given.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "architectures": ["MemoryLlamaForCausalLM"],
    }
    if params.max_seqlen is not None:
        fields["max_position_embeddings"] = params.max_seqlen
    try:
        return MemoryLlamaConfig(**fields, **_attention_fields(params, shapes, dim), **memory)
    except (ValueError, StrictDataclassError) as error:
        raise UsageError(f"the checkpoint fits no memory-layer Llama: {error}") from error


def shape_of(shapes: Shapes, name: str, num_dimensions: int) -> tuple[int, ...]:
    """The shape of a weight that tells a size.

    Raises:
        UsageError: when there is no such weight, or it has another number of dimensions.
    """
    if name not in shapes:
        raise UsageError(f"{WEIGHTS_FILE} has no {name}", remedy="Save the whole model, unsharded.")
    shape = shapes[name]
    if len(shape) != num_dimensions:
        raise UsageError(f"{name}: got shape {list(shape)}, expected {num_dimensions} dimensions")
    return shape


def ffn_hidden_size(dim: int, multiplier: float | None, multiple_of: int | None) -> int:
    """Hidden size of an FFN: two thirds of 4 * dim, times the multiplier, rounded up.

    Args:
        dim: the model's width.
        multiplier: ffn_dim_multiplier, None = 1.
        multiple_of: what it is rounded up to a multiple of, None = 256.
    """
    hidden, step = int(8 * dim / 3), multiple_of or _DEFAULT_MULTIPLE
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return step * -(-hidden // step)


def _attention_fields(params: LinguaParams, shapes: Shapes, dim: int) -> dict[str, Any]:
    """Heads cannot be told from shapes, so params.json has to name their number or their width."""
    if params.n_heads is None and params.head_dim is None:
        raise UsageError(
            f"{PARAMS_FILE}: got neither n_heads nor head_dim, expected one: no weight tells it",
            remedy="Add it.",
        )
    query, key = "layers.0.attention.wq.weight", "layers.0.attention.wk.weight"
    query_rows, key_rows = shape_of(shapes, query, 2)[0], shape_of(shapes, key, 2)[0]
    head_dim = params.head_dim or dim // (params.n_heads or 1)
    if head_dim == 0 or head_dim % 2:
        raise UsageError(
            f"{PARAMS_FILE}: the width of a head is {head_dim}, expected an even number: RoPE turns pairs",
            remedy="Correct dim, n_heads or head_dim.",
        )
    num_heads, num_key_value_heads = (
        _quotient(query_rows, head_dim, query, "rows"),
        _quotient(key_rows, head_dim, key, "rows"),
    )
    _agree("n_heads", params.n_heads, num_heads, query)
    _agree("n_kv_heads", params.n_kv_heads, num_key_value_heads, key)
    _quotient(num_heads, num_key_value_heads, query, "heads")
    return {
        "head_dim": head_dim,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_key_value_heads,
    }


def _ffn_size(
    params: LinguaParams, shapes: Shapes, dim: int, num_layers: int, memory_layers: list[int]
) -> int:
    ruled = ffn_hidden_size(dim, params.ffn_dim_multiplier, params.multiple_of)
    dense = next((index for index in range(num_layers) if index not in memory_layers), None)
    if dense is None:
        return ruled
    name = f"layers.{dense}.feed_forward.w1.weight"
    found = shape_of(shapes, name, 2)[0]
    if params.ffn_dim_multiplier is not None or params.multiple_of is not None:
        rule = f"ffn_dim_multiplier {params.ffn_dim_multiplier} and multiple_of {params.multiple_of}"
        _agree(f"the FFN's hidden size by {rule}", ruled, found, name)
    return found


def _is_tied(params: LinguaParams, shapes: Shapes) -> bool:
    return "output.weight" not in shapes if params.weight_tying is None else params.weight_tying


def _memory_fields(params: MemoryParams, shapes: Shapes, dim: int) -> dict[str, Any]:
    layers = tuple(sorted(int(found[1]) for name in shapes if (found := _MEMORY.fullmatch(name))))
    if not layers:
        raise UsageError(
            f"{WEIGHTS_FILE} has no memory layer: expected layers.N.feed_forward.keys",
            remedy="Only checkpoints with memory layers are converted; a plain Llama gets them by "
            "`memedit retrofit`.",
        )
    _agree("layers", params.layers, layers, "the names *.feed_forward.keys", where=MEMORY_ARGUMENTS)
    first = f"layers.{layers[0]}.feed_forward"
    is_gated = f"{first}.swilu_projection.weight" in shapes
    _agree("swilu_projection", params.swilu_projection, is_gated, first, where=MEMORY_ARGUMENTS)
    return {
        "memory_layers": list(layers),
        "memory_placement": "replace",
        "memory_top_k": params.mem_knn,
        "memory_gated_output": is_gated,
        "memory_output_projection": f"{first}.value_proj.weight" in shapes,
        "memory_shared_table": params.mem_share_values is not False,
        # A routing that was trained with the model tells facts apart where they are said.
        "memory_write_position": "answer",
        **_memory_sizes(params, shapes, dim, layers),
    }


def _memory_sizes(
    params: MemoryParams, shapes: Shapes, dim: int, layers: tuple[int, ...]
) -> dict[str, int | None]:
    keys, query = (
        f"layers.{layers[0]}.feed_forward.{name}" for name in ("keys", "query_proj.query_mlps.0.weight")
    )
    tables = [f"layers.{layer}.feed_forward.values.weight" for layer in layers]
    table = next((name for name in tables if name in shapes), tables[0])
    key_rows, half = shape_of(shapes, keys, 2)
    num_slots, value_dim = shape_of(shapes, table, 2)
    heads = _quotient(shape_of(shapes, query, 2)[0], 2 * half, query, "rows")
    num_keys = _quotient(key_rows, 2 * heads, keys, "rows")
    if num_slots != num_keys**2:
        raise UsageError(
            f"{table}: got {num_slots} rows, expected {num_keys}**2 = {num_keys**2}: {keys} holds {num_keys} "
            f"sub-keys for each half of {heads} heads"
        )
    for name, stated, found, told_by in (
        ("mem_k_dim", params.mem_k_dim, 2 * half, keys),
        ("mem_heads", params.mem_heads, heads, query),
        ("mem_n_keys", params.mem_n_keys, num_keys, keys),
        ("mem_v_dim", params.mem_v_dim, value_dim, table),
    ):
        _agree(name, stated, found, told_by, where=MEMORY_ARGUMENTS)
    return {
        "memory_num_keys": num_keys,
        "memory_key_dim": 2 * half,
        "memory_heads": heads,
        "memory_value_dim": None if value_dim == dim else value_dim,
    }


def _quotient(total: int, part: int, name: str, unit: str) -> int:
    if part == 0 or total == 0 or total % part:
        raise UsageError(f"{name}: got {total} {unit}, expected a multiple of {part}")
    return total // part


def _agree(name: str, stated: object, found: object, told_by: str, where: str = "") -> None:
    """Refuse what params.json states where a shape tells something else."""
    if stated is None or stated == found:
        return
    full_name = f"{where}.{name}" if where else name
    raise UsageError(
        f"{PARAMS_FILE}: {full_name}: got {stated!r}, expected {found!r}, which {told_by} tells",
        remedy=f"Correct {PARAMS_FILE}, unless it belongs to another checkpoint than {WEIGHTS_FILE}.",
    )
