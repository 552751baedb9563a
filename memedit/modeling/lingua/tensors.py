"""Which weight of a lingua checkpoint becomes which of the memory-layer Llama, and in what order of rows.

Lingua's RoPE turns adjacent pairs of a head's columns (0 and 1, 2 and 3, ...), transformers' turns the halves
(0 and hd/2, ...), so the rows of wq and wk change places within each head. Product keys get their head, half
and key dimensions. All else is the same matrix under another name.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor

from memedit.errors import UsageError
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.lingua.checkpoint import WEIGHTS_FILE

_LISTED = 20
_ATTENTION = {"wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj"}
_FFN = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


class Renamed(NamedTuple):
    """A weight and what becomes of it.

    Attributes:
        source: its name in the checkpoint.
        target: its name in the memory-layer Llama.
        shape: its shape in the checkpoint.
        arrange: makes the stored tensor of it; None = as it is.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    arrange: Callable[[Tensor], Tensor] | None = None


def to_rotate_half(weight: Tensor, num_heads: int) -> Tensor:
    """Put a head's even rows before its odd ones.

    Args:
        weight: [num_heads * head_dim, dim], rows of a head in adjacent pairs.
        num_heads: heads of the projection.

    Returns:
        [num_heads * head_dim, dim], first halves of the pairs first.
    """
    rows, dim = weight.shape
    return weight.view(num_heads, rows // num_heads // 2, 2, dim).transpose(1, 2).reshape(rows, dim)


def table_names(config: MemoryLlamaConfig) -> list[str]:
    """Names under which a checkpoint may hold value tables, one for each memory layer, ascending."""
    return [f"layers.{layer}.feed_forward.values.weight" for layer in config.memory_layers]


def renamed_weights(config: MemoryLlamaConfig, present: Collection[str]) -> list[Renamed]:
    """List every weight of the model, value tables included.

    Args:
        config: the model's configuration.
        present: names of the checkpoint; a shared table is taken from the first layer that has it.
    """
    dim, vocabulary = config.hidden_size, config.vocab_size
    found = [
        Renamed("tok_embeddings.weight", "model.embed_tokens.weight", (vocabulary, dim)),
        Renamed("norm.weight", "model.norm.weight", (dim,)),
    ]
    if not config.tie_word_embeddings:
        found.append(Renamed("output.weight", "lm_head.weight", (vocabulary, dim)))
    for layer in range(config.num_hidden_layers):
        found += _attention(config, layer)
        found += _memory(config, layer) if layer in config.memory_layers else _ffn(config, layer)
    tables = table_names(config)
    if config.memory_shared_table:
        tables = [next((name for name in tables if name in present), tables[0])]
    return found + [
        Renamed(name, f"model.memory_tables.{index}.values", (config.num_slots, config.value_dim))
        for index, name in enumerate(tables)
    ]


def require_weights(
    expected: list[Renamed], shapes: Mapping[str, tuple[int, ...]], copies: Mapping[str, str]
) -> None:
    """Hold the names and shapes of a checkpoint against what its configuration asks for.

    Args:
        expected: every weight of the model.
        shapes: what there is.
        copies: further names under which a listed weight may appear, each with the listed one.

    Raises:
        UsageError: lists missing and unknown weights, and those of another shape.
    """
    names = {each.source for each in expected}
    _refuse_query_norms(shapes)
    wrong = [
        *_listed("missing weights", names - set(shapes)),
        *_listed("unknown weights", set(shapes) - names - set(copies)),
    ]
    if wrong:
        raise UsageError(
            f"{WEIGHTS_FILE}: {'; '.join(wrong)}",
            remedy="Nothing may be left out or left over: a part that is not known would change the outputs.",
        )
    by_name = {each.source: each.shape for each in expected}
    for name, shape in shapes.items():
        wanted = by_name[copies.get(name, name)]
        if shape != wanted:
            raise UsageError(f"{WEIGHTS_FILE}: {name}: got shape {list(shape)}, expected {list(wanted)}")


def _refuse_query_norms(shapes: Collection[str]) -> None:
    """A query network's layers are numbered: after its first matrix comes a norm, or another matrix."""
    known = ("query_proj.query_mlps.0.weight", "query_proj.query_mlps.0.bias")
    others = sorted(name for name in shapes if ".query_proj." in name and not name.endswith(known))
    if others:
        raise UsageError(
            f"{WEIGHTS_FILE}: queries are normalised, or made by several matrices: "
            f"{', '.join(others[:_LISTED])}",
            remedy="Only queries of one matrix without a norm can be converted as yet.",
        )


def _listed(what: str, names: Collection[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        yield f"{what}: {', '.join(sorted(names)[:_LISTED])}{more}"


def _attention(config: MemoryLlamaConfig, layer: int) -> Iterator[Renamed]:
    there, here = f"layers.{layer}", f"model.layers.{layer}"
    dim, width = config.hidden_size, config.head_dim
    heads, key_value_heads = config.num_attention_heads, config.num_key_value_heads
    assert width is not None
    assert key_value_heads is not None
    rows = {"wq": heads * width, "wk": key_value_heads * width, "wv": key_value_heads * width, "wo": dim}
    turned = {"wq": heads, "wk": key_value_heads}
    for name, target in _ATTENTION.items():
        yield Renamed(
            f"{there}.attention.{name}.weight",
            f"{here}.self_attn.{target}.weight",
            (rows[name], heads * width if name == "wo" else dim),
            partial(to_rotate_half, num_heads=turned[name]) if name in turned else None,
        )
    yield Renamed(f"{there}.attention_norm.weight", f"{here}.input_layernorm.weight", (dim,))
    yield Renamed(f"{there}.ffn_norm.weight", f"{here}.post_attention_layernorm.weight", (dim,))


def _ffn(config: MemoryLlamaConfig, layer: int) -> Iterator[Renamed]:
    dim, hidden = config.hidden_size, config.intermediate_size
    for name, target in _FFN.items():
        yield Renamed(
            f"layers.{layer}.feed_forward.{name}.weight",
            f"model.layers.{layer}.mlp.{target}.weight",
            (dim, hidden) if name == "w2" else (hidden, dim),
        )


def _memory(config: MemoryLlamaConfig, layer: int) -> Iterator[Renamed]:
    there, here = f"layers.{layer}.feed_forward", f"model.layers.{layer}.memory"
    heads, num_keys, half = config.memory_heads, config.memory_num_keys, config.memory_key_dim // 2
    yield Renamed(
        f"{there}.keys",
        f"{here}.sub_keys",
        (2 * heads * num_keys, half),
        lambda keys: keys.reshape(heads, 2, num_keys, half),
    )
    dim, value_dim = config.hidden_size, config.value_dim
    linears = [("query_proj.query_mlps.0", "query_projection", heads * 2 * half, dim)]
    if config.memory_gated_output:
        linears.append(("swilu_projection", "gate_projection", value_dim, dim))
    if config.has_output_projection:
        linears.append(("value_proj", "output_projection", dim, value_dim))
    for name, target, rows, columns in linears:
        yield Renamed(f"{there}.{name}.weight", f"{here}.{target}.weight", (rows, columns))
        yield Renamed(f"{there}.{name}.bias", f"{here}.{target}.bias", (rows,))
