# SPDX-License-Identifier: Apache-2.0
"""A Llama with memory layers, in plain PyTorch: the code that a model exported by memedit carries.

A memory layer is a look-up. Each token's hidden state makes a query per head; two halves of it are scored
against two sets of n sub-keys; the k best pairs name k of n * n *slots*. What the slots hold, weighted by the
softmax of their scores, is added to the token. Facts were taught by writing a few slots (the *overlay*); each
of these has an *owner*, the subject it was written for, and speaks only where the routing agrees with it, and
only at the last of the layers that share a table.

The file reads from top to bottom: what slots hold, the layer, the model. Beside it lie how slots are found
(slot_search.py), how queries are normalised (query_norm.py) and what they see (window_state.py). They need
torch and transformers (5 or newer), nothing else. Sums are made in the order in which memedit makes them, so
that the same weights on the same CPU give the same logits to the bit.

Sources: product keys, Lample et al. 2019 (arXiv 1907.05242); memory layers, Berges et al. 2024 (arXiv
2412.09764); single-neuron experts, He 2024 (arXiv 2407.04153).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaModel, initialization
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from .configuration_memory_llama import MemoryLlamaConfig
from .query_norm import QueryNorm
from .slot_search import best_slots
from .window_state import extend_window_state, first_real_positions, query_windows

# Elements of value rows gathered at a time: they bound the temporary memory.
_MAX_GATHERED = 1 << 22
# Owners of a look-up that hits a written row of nobody, and of one that hits no written row.
UNGATED = -1
NOT_WRITTEN = -2


# What slots hold


class MemoryTable(nn.Module):
    """What the slots hold: base rows [slots, value_dim] (or none), and the overlay of written rows.

    The overlay's buffers, all None where nothing is written: slots int64 [n], ascending; values fp32
    [u, value_dim], added to the base rows; rows int64 [n], which of the values each slot holds (None: one
    each); owners int64 [n]; thresholds fp32 [owners]; discriminants fp32 [owners, query_dim + 1] (None: no
    owner has one).
    """

    values: nn.Parameter | None
    inputs: nn.Parameter | None
    overlay_slots: Tensor | None
    overlay_values: Tensor
    overlay_rows: Tensor | None
    overlay_owners: Tensor
    overlay_thresholds: Tensor
    overlay_discriminants: Tensor | None

    def __init__(self, config: MemoryLlamaConfig, index: int) -> None:
        super().__init__()
        self.heads, self.value_dim = config.memory_heads, config.value_dim
        num_slots = config.num_slots
        base = None if config.memory_empty_base else nn.Parameter(torch.empty(num_slots, self.value_dim))
        self.register_parameter("values", base)
        experts = config.memory_variant == "peer"
        inputs = nn.Parameter(torch.empty(num_slots, config.hidden_size)) if experts else None
        self.register_parameter("inputs", inputs)
        written = self._blank_overlay(config, index)
        for name in ("slots", "values", "rows", "owners", "thresholds", "discriminants"):
            self.register_buffer(f"overlay_{name}", written.get(name))

    def _blank_overlay(self, config: MemoryLlamaConfig, index: int) -> dict[str, Tensor]:
        num_rows, num_owners = config.memory_overlay_rows[index], config.memory_overlay_owners[index]
        num_values, query_dim = config.memory_overlay_values[index], config.memory_overlay_query_dims[index]
        if num_rows == 0:
            return {}
        blank = {
            "slots": torch.arange(num_rows),
            "values": torch.zeros(num_values or num_rows, self.value_dim, dtype=torch.float32),
            "owners": torch.full((num_rows,), UNGATED),
            "thresholds": torch.zeros(num_owners, dtype=torch.float32),
        }
        if num_values:
            blank["rows"] = torch.zeros(num_rows, dtype=torch.int64)
        if query_dim:
            blank["discriminants"] = torch.zeros(num_owners, query_dim + 1, dtype=torch.float32)
        return blank

    def is_silent(self, *, reads_written: bool) -> bool:
        """Whether nothing can come out: no base table, and no written row that speaks.

        Args:
            reads_written: whether the overlay speaks at the layer that asks.
        """
        return self.values is None and (self.overlay_slots is None or not reads_written)

    @staticmethod
    def activations(inputs: Tensor, hidden: Tensor, slots: Tensor) -> Tensor:
        """Of single-neuron experts: gelu(<x, input row>).

        Args:
            inputs: [slots, hidden_size], the input rows.
            hidden: fp32 [tokens, hidden_size].
            slots: int64 [tokens, heads * k].

        Returns:
            fp32 [tokens, heads * k].
        """
        step = max(1, _MAX_GATHERED // (slots.shape[1] * hidden.shape[1]))
        dots = [
            (inputs[found].float() * tokens[:, None]).sum(-1)
            for found, tokens in zip(slots.split(step), hidden.split(step), strict=True)
        ]
        return functional.gelu(torch.cat(dots))

    def forward(
        self, slots: Tensor, weights: Tensor, queries: Tensor, *, reads_written: bool = True
    ) -> Tensor:
        """Return what each token's look-ups hold, weighted: base rows plus written rows.

        Args:
            slots: int64 [tokens, heads * k].
            weights: fp32 [tokens, heads * k].
            queries: fp32 [tokens, heads * key_dim].
            reads_written: whether the overlay speaks at the layer that asks.

        Returns:
            fp32 [tokens, value_dim].
        """
        bag = self._base_bag(slots, weights)
        if self.overlay_slots is None or not reads_written:
            return bag
        rows = torch.searchsorted(self.overlay_slots, slots).clamp(max=len(self.overlay_slots) - 1)
        hit = self.overlay_slots[rows] == slots
        speaking = self._gated(rows, hit, weights, queries)
        token, column = (hit & (speaking != 0)).nonzero(as_tuple=True)
        if len(token) == 0:
            return bag
        held = rows[token, column] if self.overlay_rows is None else self.overlay_rows[rows[token, column]]
        tokens, counts = token.unique_consecutive(return_counts=True)
        written = _bags(self.overlay_values.float(), held, speaking[token, column], counts)
        return bag.index_add(0, tokens, written)

    def _base_bag(self, slots: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of base rows, in fp32 whatever their type."""
        if self.values is None:
            return weights.new_zeros(len(slots), self.value_dim)
        if self.values.dtype == weights.dtype:
            return functional.embedding_bag(slots, self.values, mode="sum", per_sample_weights=weights)
        bags = []
        step = max(1, _MAX_GATHERED // (slots.shape[1] * self.value_dim))
        for found, weight in zip(slots.split(step), weights.split(step), strict=True):
            read = self.values[found.flatten()].to(weights.dtype)
            places = torch.arange(found.numel(), device=found.device).view(found.shape)
            bags.append(functional.embedding_bag(places, read, mode="sum", per_sample_weights=weight))
        return torch.cat(bags)

    def _gated(self, rows: Tensor, hit: Tensor, weights: Tensor, queries: Tensor) -> Tensor:
        """Let one owner's rows speak at each token, or none.

        An owner's mass at a token is the sum of the weights of its look-ups, divided by the number of heads.
        The owner with the most (on a tie the lower index) speaks if its mass reaches its threshold: its
        look-ups then keep weight / (sum of its weights). All other owned look-ups get 0, and rows without an
        owner keep their weight.

        Args:
            rows: int64 [tokens, j], the written row of each look-up.
            hit: bool [tokens, j], whether it has one.
            weights: fp32 [tokens, j].
            queries: fp32 [tokens, query_dim].

        Returns:
            fp32 [tokens, j].
        """
        owner = self.overlay_owners[rows].masked_fill(~hit, NOT_WRITTEN)
        if self.overlay_discriminants is not None:
            owner = self._of_agreeing(self.overlay_discriminants.float(), owner, queries)
        gated = weights.masked_fill(owner != UNGATED, 0.0)
        owned = owner > UNGATED
        token = owned.nonzero()[:, 0]
        if len(token) == 0:
            return gated
        owner, weight, num_owners = owner[owned], weights[owned], len(self.overlay_thresholds)
        # One group for each (token, owner) that occurs, in order of token, then owner.
        ordered, order = (token * num_owners + owner).sort(stable=True)
        groups, place, counts = ordered.unique_consecutive(return_inverse=True, return_counts=True)
        group = torch.empty_like(order).scatter(0, order, place)
        group_weight = _bags(weight[:, None], order, torch.ones_like(weight), counts)[:, 0]
        group_token, group_owner = groups // num_owners, groups % num_owners
        most = weight.new_zeros(len(rows)).scatter_reduce(0, group_token, group_weight, "amax")
        is_best = group_weight == most[group_token]
        best = torch.full((len(rows),), num_owners, device=rows.device)
        best = best.scatter_reduce(0, group_token[is_best], group_owner[is_best], "amin")
        best = best.clamp(max=num_owners - 1)
        is_open = (most > 0) & (most / most.new_full((), self.heads) >= self.overlay_thresholds.float()[best])
        speaks = is_open[token] & (owner == best[token])
        total = group_weight[group].masked_fill(~speaks, 1.0)
        return gated.masked_scatter(owned, (weight / total).masked_fill(~speaks, 0.0))

    @staticmethod
    def _of_agreeing(discriminants: Tensor, owner: Tensor, queries: Tensor) -> Tensor:
        """Leave out look-ups of owners on whose side of the discriminant the token's query does not lie."""
        num_owners = len(discriminants)
        token, column = (owner > UNGATED).nonzero(as_tuple=True)
        pairs, place = (token * num_owners + owner[token, column]).unique(return_inverse=True)
        chosen = discriminants[pairs % num_owners]
        side = (queries[pairs // num_owners] * chosen[:, :-1]).sum(-1) + chosen[:, -1]
        shut = ~(side >= 0)[place]
        left = owner.clone()
        left[token[shut], column[shut]] = NOT_WRITTEN
        return left


def _bags(table: Tensor, rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Weighted sums of rows [hits] of a table, `counts` hits after another to one sum: [sums, dim]."""
    starts = counts.cumsum(0) - counts
    return functional.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)


# The layer


class MemoryLayer(nn.Module):
    """Sub-keys, query projection and output path of one block; what slots hold is in a MemoryTable."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        super().__init__()
        self.window, self.heads, self.top_k = (
            config.memory_query_window,
            config.memory_heads,
            config.memory_top_k,
        )
        self.key_dim, self.temperature = config.memory_key_dim, float(config.memory_temperature)
        hidden, value_dim = config.hidden_size, config.value_dim
        self.norm = QueryNorm(config)
        self.sub_keys = nn.Parameter(
            torch.empty(self.heads, 2, config.memory_num_keys, self.key_dim // 2, dtype=torch.float32)
        )
        self.query_projection = nn.Linear(
            self.window * hidden, self.heads * self.key_dim, dtype=torch.float32
        )
        projected = config.has_output_projection
        self.gate_projection = nn.Linear(hidden, value_dim) if config.memory_gated_output else None
        self.output_projection = nn.Linear(value_dim, hidden) if projected else None

    def route(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find slots [tokens, heads * k], weights and queries [tokens, heads * key_dim], in fp32."""
        projection = self.query_projection
        queries = functional.linear(windows.float(), projection.weight.float(), projection.bias.float())
        queries, sub_keys = self.norm(queries.view(-1, self.heads, self.key_dim), self.sub_keys.float())
        slots, scores = best_slots(queries, sub_keys, self.top_k)
        weights = torch.softmax(scores * self.temperature, dim=-1)
        return slots.flatten(1), weights.flatten(1), queries.flatten(1)

    def forward(
        self, hidden: Tensor, windows: Tensor, table: MemoryTable, *, reads_written: bool = True
    ) -> Tensor:
        """Look up what the tokens' slots hold, and take it through the output path.

        Args:
            hidden: [batch, time, hidden_size], the block's normalised FFN inputs.
            windows: [batch * time, window * hidden_size].
            table: what the slots hold.
            reads_written: whether the table's overlay speaks here.

        Returns:
            [batch, time, hidden_size] in the type of hidden.
        """
        slots, weights, queries = self.route(windows)
        if table.inputs is not None:
            weights = weights * table.activations(table.inputs, hidden.flatten(0, -2).float(), slots)
        bag = table(slots, weights, queries, reads_written=reads_written)
        bag = bag.view(*hidden.shape[:-1], -1).to(hidden.dtype)
        if self.gate_projection is not None:
            bag = bag * functional.silu(self.gate_projection(hidden))
        output: Tensor = bag if self.output_projection is None else self.output_projection(bag)
        return output


# The model


class MemoryStep(NamedTuple):
    """What the blocks of one forward need beside transformers' arguments: tables, and where rows start."""

    tables: list[MemoryTable]
    first_position: Tensor | None


class MemoryLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama block, with a memory layer where the configuration names it."""

    def __init__(self, config: MemoryLlamaConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.layer_idx = layer_idx
        self.memory: MemoryLayer | None = None
        if layer_idx in config.memory_layers:
            memory_index = config.memory_layers.index(layer_idx)
            self.memory = MemoryLayer(config)
            self.table_index = 0 if config.memory_shared_table else memory_index
            self.reads_written = not config.memory_shared_table or layer_idx == config.memory_layers[-1]
            self.state_index = config.num_hidden_layers + memory_index
            if config.memory_placement == "replace":
                self.mlp = None  # type: ignore[assignment]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        memory_step: MemoryStep | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Run the block; see LlamaDecoderLayer for the arguments and MemoryStep for the added one."""
        attended, _ = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            position_embeddings=position_embeddings,
            **kwargs,
        )
        hidden_states = hidden_states + attended
        normalised = self.post_attention_layernorm(hidden_states)
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(normalised)
        if self.memory is None:
            return hidden_states
        history = normalised
        if past_key_values is not None and self.memory.window > 1:
            length = past_key_values.get_seq_length(self.layer_idx)
            history = extend_window_state(past_key_values, normalised, self.state_index, length)
        assert memory_step is not None
        table = memory_step.tables[self.table_index]
        if table.is_silent(reads_written=self.reads_written):
            return hidden_states
        windows = query_windows(
            history,
            self.memory.window,
            first_position=memory_step.first_position,
            num_new=normalised.shape[1],
        )
        remembered: Tensor = self.memory(
            normalised, windows.flatten(0, 1), table, reads_written=self.reads_written
        )
        return hidden_states + remembered


class MemoryLlamaPreTrainedModel(LlamaPreTrainedModel):
    """What the classes below share: configuration class, types and initialisation."""

    config: MemoryLlamaConfig
    config_class = MemoryLlamaConfig
    _no_split_modules = ["MemoryLlamaDecoderLayer"]  # noqa: RUF012 (transformers rebinds it per instance)
    _can_compile_fullgraph = False
    # Routing and written rows come out the same whatever type the model is loaded in.
    _keep_in_fp32_modules_strict = [  # noqa: RUF012
        "sub_keys",
        "query_projection",
        "memory.norm",
        "overlay_values",
        "overlay_thresholds",
        "overlay_discriminants",
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, MemoryLayer):
            bound = module.key_dim**-0.5
            initialization.uniform_(module.sub_keys, -bound, bound)
        elif isinstance(module, QueryNorm):
            for gain in module.parameters(recurse=False):
                initialization.ones_(gain)
        elif isinstance(module, MemoryTable):
            for rows in module.parameters(recurse=False):
                initialization.normal_(rows, std=rows.shape[1] ** -0.5)
            # An overlay that no checkpoint fills changes nothing.
            for name, buffer in module.named_buffers(recurse=False):
                initialization.constant_(buffer, UNGATED if name == "overlay_owners" else 0)
                if name == "overlay_slots":
                    initialization.copy_(buffer, torch.arange(len(buffer)))


class MemoryLlamaModel(MemoryLlamaPreTrainedModel, LlamaModel):
    """The decoder: Llama's blocks, some with a memory layer, and the value tables."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        # LlamaModel's own __init__ would build plain blocks first.
        super(LlamaModel, self).__init__(config)
        self.padding_idx, self.vocab_size = config.pad_token_id, config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        blocks = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(MemoryLlamaDecoderLayer(config, index) for index in blocks)
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        tables = range(config.num_memory_tables)
        self.memory_tables = nn.ModuleList(MemoryTable(config, index) for index in tables)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Run the decoder; arguments and result are LlamaModel's."""
        needs_start = bool(self.config.memory_layers) and self.config.memory_query_window > 1
        first_position = first_real_positions(attention_mask) if needs_start else None
        tables: Any = list(self.memory_tables)
        step = MemoryStep(tables, first_position)
        return super().forward(input_ids, attention_mask, *args, memory_step=step, **kwargs)


class LanguageModelHead(nn.Linear):
    """The head reads the last position of many rows as one block, as memedit's does: same sums, same bits."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Apply the head to [..., hidden_size]."""
        return super().forward(input.contiguous())


class MemoryLlamaForCausalLM(MemoryLlamaPreTrainedModel, LlamaForCausalLM):
    """A Llama for text generation, with memory layers and what was written to them."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.model = MemoryLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = LanguageModelHead(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]
