"""What a model costs by its configuration: parameters, those that a token uses, and FLOPs of its forward.

What: `model_account` counts a plain Llama, a memory-layer Llama (value rows or single-neuron experts) and a
mixture of experts (Mixtral), part by part.
Why: models of different kinds are only comparable at equal work, which has to be counted and not guessed.
How: arithmetic on the configuration; no model is built. A multiplication with its addition is 2 FLOPs, an
addition of two scores is 1; matrix products, attention, the scoring of sub-keys and sums of rows count.
Norms, softmax, activations, gates, biases and selections do not: they are elementwise or comparisons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from memedit.modeling.configuration import MemoryLlamaConfig

DENSE, EXPERTS, ROUTING, VALUES = "dense", "experts", "routing", "values"
"""Groups of parts: every token uses DENSE and ROUTING wholly, and of EXPERTS and VALUES what is chosen."""


@dataclass(frozen=True)
class PartAccount:
    """What one kind of weights costs, all blocks together.

    Attributes:
        name: the part, such as "attention".
        group: DENSE, EXPERTS, ROUTING or VALUES.
        parameters: how many numbers are held; weights that are used twice count once.
        active_parameters: how many of them a token uses, at most.
        flops: of a forward, per token.
    """

    name: str
    group: str
    parameters: int
    active_parameters: int
    flops: int


@dataclass(frozen=True)
class ModelAccount:
    """What a model costs.

    Attributes:
        context: how many tokens a token attends to, itself included.
        parts: by kind of weights, in the order of a forward.
    """

    context: int
    parts: tuple[PartAccount, ...]

    def part(self, name: str) -> PartAccount:
        """Return the part of that name.

        Raises:
            KeyError: there is none.
        """
        return {part.name: part for part in self.parts}[name]

    def parameters(self, group: str | None = None) -> int:
        """Return how many parameters are held, of one group or of all."""
        return sum(part.parameters for part in self._of(group))

    def active_parameters(self, group: str | None = None) -> int:
        """Return how many parameters a token uses at most, of one group or of all."""
        return sum(part.active_parameters for part in self._of(group))

    def flops(self, group: str | None = None) -> int:
        """Return the FLOPs of a forward per token, of one group or of all."""
        return sum(part.flops for part in self._of(group))

    def _of(self, group: str | None) -> Iterator[PartAccount]:
        return (part for part in self.parts if group in (None, part.group))


def model_account(config: PreTrainedConfig, context: int) -> ModelAccount:
    """Count what a model costs.

    A token attends to `context` tokens: the cost of the last of so many, and the mean cost of all of them
    where the half that the mask hides is computed as well, as a plain matrix product does. Embeddings count
    as used wholly, as is the custom. A memory layer counts as running, also where nothing is written yet.

    Args:
        config: of a LlamaForCausalLM, a MemoryLlamaForCausalLM or a MixtralForCausalLM.
        context: at least 1.

    Returns:
        The account.

    Raises:
        ValueError: when the model is of another kind, or the context is no positive number.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ValueError(f"context: got {context!r}, expected an integer of at least 1")
    kind = config.model_type
    if kind not in ("llama", "memory_llama", "mixtral"):
        raise ValueError(
            f"config: got a model of type {kind!r}, expected llama, memory_llama or mixtral; others need "
            "their parts counted in memedit/modeling/accounting.py first"
        )
    embeddings, head = _embeddings(config)
    parts = [embeddings, *_attention(config, context)]
    if kind == "mixtral":
        parts += _mixture(config)
    elif isinstance(config, MemoryLlamaConfig):
        parts += [*_feed_forward(config), *_routing(config), *_values(config)]
    else:
        parts += _feed_forward(config)
    return ModelAccount(context, (*parts, _norms(config), head))


def _embeddings(config: Any) -> tuple[PartAccount, PartAccount]:
    """Input embeddings and head; tied ones are held once."""
    size = config.vocab_size * config.hidden_size
    own = 0 if config.tie_word_embeddings else size
    return PartAccount("embeddings", DENSE, size, size, 0), PartAccount("head", DENSE, own, own, 2 * size)


def _attention(config: Any, context: int) -> tuple[PartAccount, PartAccount]:
    """The projections, and what depends on the context: scores and the weighted sum of values."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    blocks = config.num_hidden_layers
    weights = blocks * 2 * config.hidden_size * (queries + keys)
    biases = blocks * (queries + 2 * keys + config.hidden_size) * getattr(config, "attention_bias", False)
    seen = min(context, getattr(config, "sliding_window", None) or context)
    held = weights + biases
    return (
        PartAccount("attention", DENSE, held, held, 2 * weights),
        PartAccount("attention_context", DENSE, 0, 0, blocks * 4 * queries * seen),
    )


def _feed_forward(config: Any) -> Iterator[PartAccount]:
    """The FFNs, without those that memory layers replace."""
    replaces = isinstance(config, MemoryLlamaConfig) and config.memory_placement == "replace"
    blocks = config.num_hidden_layers - (len(config.memory_layers) if replaces else 0)
    weights = blocks * 3 * config.hidden_size * config.intermediate_size
    biases = blocks * (2 * config.intermediate_size + config.hidden_size) * config.mlp_bias
    yield PartAccount("ffn", DENSE, weights + biases, weights + biases, 2 * weights)


def _mixture(config: Any) -> Iterator[PartAccount]:
    """Experts of which a token uses a few, and the router that chooses them."""
    routers = config.num_hidden_layers * config.hidden_size * config.num_local_experts
    yield PartAccount("router", ROUTING, routers, routers, 2 * routers)
    # In every block: one expert is an FFN.
    expert = config.num_hidden_layers * 3 * config.hidden_size * config.intermediate_size
    active = expert * config.num_experts_per_tok
    yield PartAccount("experts", EXPERTS, expert * config.num_local_experts, active, 2 * active)


def _norms(config: Any) -> PartAccount:
    """Two in each block and the last one."""
    size = (2 * config.num_hidden_layers + 1) * config.hidden_size
    return PartAccount("norms", DENSE, size, size, 0)


def _routing(config: MemoryLlamaConfig) -> Iterator[PartAccount]:
    """What finds a token's slots, and the output path."""
    layers, heads, hidden = len(config.memory_layers), config.memory_heads, config.hidden_size
    queries, values = heads * config.memory_key_dim, config.value_dim
    projection = config.memory_query_window * hidden * queries
    yield _used_wholly("query_projection", layers * (projection + queries), layers * 2 * projection)
    gains = {"layer": 2 * config.memory_key_dim, "batch": 2 * queries, "qk": 2 * queries}
    yield _used_wholly("query_norm", layers * gains.get(config.memory_query_norm, 0), 0)
    # Each of 2 halves is scored against n sub-keys of half the width; k * k sums of the best are compared.
    scoring = 2 * 2 * config.memory_num_keys * (config.memory_key_dim // 2)
    sub_keys = 2 * config.memory_num_keys * (config.memory_key_dim // 2)
    flops = layers * heads * (scoring + config.memory_top_k**2)
    yield _used_wholly("sub_keys", layers * heads * sub_keys, flops)
    gate = hidden * values if config.memory_gated_output else 0
    output = values * hidden if config.has_output_projection else 0
    biases = (values if gate else 0) + (hidden if output else 0)
    yield _used_wholly("output_path", layers * (gate + output + biases), layers * 2 * (gate + output))


def _values(config: MemoryLlamaConfig) -> Iterator[PartAccount]:
    """The rows of the slots: a value each, and of single-neuron experts an input row as well."""
    layers, tables = len(config.memory_layers), config.num_memory_tables
    look_ups = config.memory_heads * config.memory_top_k
    most = tables * min(look_ups * layers // tables, config.num_slots) if tables else 0
    widths = {"values": config.value_dim}
    if config.memory_variant == "peer":
        widths = {"expert_inputs": config.hidden_size, **widths}
    held = not config.memory_empty_base
    for name, width in widths.items():
        slots = tables * config.num_slots * width * held
        yield PartAccount(name, VALUES, slots, most * width * held, layers * 2 * look_ups * width)


def _used_wholly(name: str, parameters: int, flops: int) -> PartAccount:
    return PartAccount(name, ROUTING, parameters, parameters, flops)
