"""The memory-layer Llama: transformers' Llama whose chosen blocks look up a value table.

A block's memory layer stands beside its FFN (`parallel`: residual + mlp(x) + memory(x)) or in its place
(`replace`: residual + memory(x)). A retrofit with nothing written skips its memory layers, so that its logits
are those of the plain Llama to the bit. Where layers share a table, what was written speaks at the last of
them alone: all that an edit was planned and trained on, routing included, is then what the model does without
it. Everything else (attention, masks, caches, generation, saving) is
transformers' own. Importing this module registers the model with transformers' Auto classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from memedit_kernels.slot_bag import UNGATED
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    LlamaModel,
    initialization,
)
from transformers.cache_utils import Cache
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from memedit.modeling.arithmetic import as_stored
from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.memory_layer import MemoryLayer
from memedit.modeling.memory_table import MemoryTable
from memedit.modeling.overlay import Overlay
from memedit.modeling.portable.query_norm import QueryNorm
from memedit.modeling.portable.window_state import extend_window_state, first_real_positions


@dataclass(frozen=True)
class MemoryStep:
    """What the blocks of one forward need beside transformers' arguments.

    Attributes:
        tables: the model's value tables.
        first_position: int64 [batch], each row's first real token; None = no padding.
        windows: makes the query windows of a batch in which tokens do not follow each other, from
            [batch, time, dim] and the window's length: [batch * time, window * dim]; None = they do.
    """

    tables: tuple[MemoryTable, ...]
    first_position: Tensor | None
    windows: Callable[[Tensor, int], Tensor] | None = None


class MemoryLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama block, with a memory layer where the configuration names it."""

    def __init__(self, config: MemoryLlamaConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.layer_idx = layer_idx
        self.memory: MemoryLayer | None = None
        if layer_idx not in config.memory_layers:
            return
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
        hidden_states = (
            hidden_states
            + self.self_attn(
                hidden_states=self.input_layernorm(hidden_states),
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
                position_embeddings=position_embeddings,
                **kwargs,
            )[0]
        )
        normalised = self.post_attention_layernorm(hidden_states)
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(normalised)
        if self.memory is None:
            return hidden_states
        assert memory_step is not None
        added = self._remember(self.memory, normalised, memory_step, past_key_values)
        return hidden_states if added is None else hidden_states + added

    def _remember(
        self, memory: MemoryLayer, normalised: Tensor, step: MemoryStep, cache: Cache | None
    ) -> Tensor | None:
        history, table = normalised, step.tables[self.table_index]
        if cache is not None and memory.window > 1:
            # Kept even while nothing is written: an edit may be switched on in the middle of a text.
            length = cache.get_seq_length(self.layer_idx)
            history = extend_window_state(cache, normalised, self.state_index, length)
        if table.is_silent(reads_written=self.reads_written):
            return None
        if step.windows is not None:
            routing = memory.route_windows(step.windows(normalised, memory.window))
        else:
            num_new = normalised.shape[1]
            routing = memory.route(history, first_position=step.first_position, num_new=num_new)
        output: Tensor = memory(normalised, table, routing, reads_written=self.reads_written)
        return output


class MemoryLlamaPreTrainedModel(LlamaPreTrainedModel):
    """What the memory-layer Llama's classes share: configuration class and initialisation."""

    config: MemoryLlamaConfig
    config_class = MemoryLlamaConfig
    _no_split_modules = ["MemoryLlamaDecoderLayer"]  # noqa: RUF012 (transformers rebinds it per instance)
    # Rows are found by data-dependent shapes, which a full-graph compile cannot trace.
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
            if module.values is not None:
                initialization.normal_(module.values, std=module.value_dim**-0.5)
            if module.inputs is not None:
                initialization.normal_(module.inputs, std=module.inputs.shape[1] ** -0.5)
            if module.overlay_slots is not None:
                _initialise_overlay(module)


def _initialise_overlay(table: MemoryTable) -> None:
    """Make a stored overlay that no checkpoint filled one that changes nothing."""
    assert table.overlay_slots is not None
    assert table.overlay_values is not None
    assert table.overlay_owners is not None
    assert table.overlay_thresholds is not None
    initialization.copy_(table.overlay_slots, torch.arange(len(table.overlay_slots)))
    initialization.zeros_(table.overlay_values)
    initialization.constant_(table.overlay_owners, UNGATED)
    initialization.zeros_(table.overlay_thresholds)
    if table.overlay_rows is not None:
        initialization.zeros_(table.overlay_rows)
    if table.overlay_discriminants is not None:
        initialization.zeros_(table.overlay_discriminants)


class MemoryLlamaModel(MemoryLlamaPreTrainedModel, LlamaModel):
    """The decoder: Llama's blocks, some with a memory layer, and the value tables."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        # LlamaModel's own __init__ would build plain blocks first.
        super(LlamaModel, self).__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            MemoryLlamaDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.memory_tables = nn.ModuleList(
            MemoryTable(config, index) for index in range(config.num_memory_tables)
        )
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
        step = MemoryStep(tuple(self.tables()), first_position)
        return super().forward(input_ids, attention_mask, *args, memory_step=step, **kwargs)

    def build_memory(self, dtype: torch.dtype, device: torch.device) -> None:
        """Make the memory layers and value tables anew, with their random start, on a device.

        Args:
            dtype: type of base values and output path; routing is fp32.
            device: where to put them.
        """
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device:
                layers = {index: MemoryLayer(self.config) for index in self.config.memory_layers}
                tables = [MemoryTable(self.config, index) for index in range(self.config.num_memory_tables)]
        finally:
            torch.set_default_dtype(default)
        for index, layer in layers.items():
            self.layers[index].memory = layer.apply(self._init_weights)
        self.memory_tables = nn.ModuleList(table.apply(self._init_weights) for table in tables)

    def tables(self) -> list[MemoryTable]:
        """Return the value tables, one when shared."""
        return [table for table in self.memory_tables if isinstance(table, MemoryTable)]


class _Head(nn.Linear):
    """The language-model head; reads the last position of many rows as one block.

    Transformers hands over a strided slice, which torch multiplies row by row with as many copies of a frozen
    weight.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Apply the head to [..., hidden_size]."""
        return super().forward(input.contiguous())


class MemoryLlamaForCausalLM(MemoryLlamaPreTrainedModel, LlamaForCausalLM):
    """A Llama for text generation with memory layers whose overlays can be exchanged at any time."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        super(LlamaForCausalLM, self).__init__(config)
        self.model = MemoryLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = _Head(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save the model in the type of its file, whatever it computes in; arguments are transformers'."""
        with as_stored(self):
            super().save_pretrained(*args, **kwargs)

    def memory_layers(self) -> dict[int, MemoryLayer]:
        """Return the memory layers by block index, ascending."""
        return {index: self.model.layers[index].memory for index in self.config.memory_layers}

    def memory_tables(self) -> list[MemoryTable]:
        """Return the value tables, one when shared, else in the order of the memory layers."""
        tables: list[MemoryTable] = self.model.tables()
        return tables

    @property
    def edited_layer(self) -> int:
        """Index of the block whose memory layer edits write to: the last that has one."""
        return self.config.memory_layers[-1]

    @property
    def edited_table(self) -> int:
        """Index of the value table that edits write to: that of the last memory layer."""
        return len(self.memory_tables()) - 1

    def overlay(self, table_index: int | None = None) -> Overlay | None:
        """Return the written rows of a value table, None when nothing is written.

        Args:
            table_index: which value table; None = the one that edits write to.
        """
        return self._table(self.edited_table if table_index is None else table_index).overlay

    def set_overlay(self, table_index: int, overlay: Overlay | None) -> None:
        """Put these written rows in place of the present ones; None takes them away.

        Nothing is copied, and gradients reach overlay.values when it requires them. save_pretrained stores
        the overlay that is set. Of a shared table it speaks at the last memory layer.

        Args:
            table_index: which value table, 0 when shared.
            overlay: the rows, or None.

        Raises:
            ValueError: when there is no such table or the overlay does not fit it.
        """
        table = self._table(table_index)
        table.set_overlay(overlay)
        rows = 0 if table.overlay_slots is None else len(table.overlay_slots)
        values = (
            0 if table.overlay_rows is None or table.overlay_values is None else len(table.overlay_values)
        )
        owners = 0 if table.overlay_thresholds is None else len(table.overlay_thresholds)
        discriminants = table.overlay_discriminants
        config = self.config
        config.memory_overlay_rows[table_index] = rows
        config.memory_overlay_values[table_index] = values
        config.memory_overlay_owners[table_index] = owners
        config.memory_overlay_query_dims[table_index] = (
            0 if discriminants is None else discriminants.shape[1] - 1
        )
        config.memory_overlay_owner_names[table_index] = list(table.owner_names)

    def _table(self, table_index: int) -> MemoryTable:
        tables = self.memory_tables()
        if not 0 <= table_index < len(tables):
            raise ValueError(
                f"table_index: got {table_index}, expected 0 to {len(tables) - 1} (value tables)"
            )
        return tables[table_index]


AutoConfig.register(MemoryLlamaConfig.model_type, MemoryLlamaConfig, exist_ok=True)
AutoModel.register(MemoryLlamaConfig, MemoryLlamaModel, exist_ok=True)
AutoModelForCausalLM.register(MemoryLlamaConfig, MemoryLlamaForCausalLM, exist_ok=True)
