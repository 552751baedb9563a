"""The memory layer: a product-key look-up of value rows for every token.

A query sees a window of w tokens: z_t = [x_t; x_{t-1}; ...; x_{t-w+1}] of the block's normalised FFN inputs,
where positions before a row's first real token repeat that token (left padding must not reach the query).
Each head scores its query against n*n slots by two sets of n sub-keys, keeps the k best, and weighs them by a
softmax. Routing is computed, and its parameters are held, in fp32 whatever the model's type: it has to come
out the same in training, in use and after a reload. Which rows speak is decided by the table (base rows,
overlay, gate).

Source: Berges et al. 2024 (arXiv 2412.09764), section 2; the window is ours.
"""

from typing import NamedTuple

import torch
from memedit_kernels.product_key_topk import product_key_topk
from torch import Tensor, nn
from torch.nn import functional

from memedit.modeling.configuration import MemoryLlamaConfig
from memedit.modeling.memory_table import MemoryTable
from memedit.modeling.portable.query_norm import QueryNorm
from memedit.modeling.portable.window_state import query_windows


class TokenRouting(NamedTuple):
    """Where tokens are routed.

    Attributes:
        slots: int64 [tokens, heads * k].
        weights: fp32 [tokens, heads * k]; a head's k weights sum to 1.
        queries: fp32 [tokens, heads * key_dim], what was scored: normalised halves where the layer does that.
    """

    slots: Tensor
    weights: Tensor
    queries: Tensor


class MemoryLayer(nn.Module):
    """Product keys, query projection and output path of one block; the values are in a MemoryTable."""

    def __init__(self, config: MemoryLlamaConfig) -> None:
        super().__init__()
        self.window, self.heads, self.top_k = (
            config.memory_query_window,
            config.memory_heads,
            config.memory_top_k,
        )
        self.key_dim, self.temperature = config.memory_key_dim, float(config.memory_temperature)
        self.norm = QueryNorm(config)
        half = config.memory_key_dim // 2
        self.sub_keys = nn.Parameter(
            torch.empty(self.heads, 2, config.memory_num_keys, half, dtype=torch.float32)
        )
        self.query_projection = nn.Linear(
            self.window * config.hidden_size, self.heads * self.key_dim, dtype=torch.float32
        )
        self.gate_projection = (
            nn.Linear(config.hidden_size, config.value_dim) if config.memory_gated_output else None
        )
        self.output_projection = (
            nn.Linear(config.value_dim, config.hidden_size) if config.has_output_projection else None
        )

    def route(
        self, hidden: Tensor, *, first_position: Tensor | None = None, num_new: int | None = None
    ) -> TokenRouting:
        """Find the slots of every token and their weights.

        Args:
            hidden: [batch, time, hidden_size], the block's normalised FFN inputs, past tokens first.
            first_position: int64 [batch], each row's first real token. None = all 0 (no left padding).
            num_new: route the last num_new tokens only; None = all.

        Returns:
            The routing of batch * num_new tokens.
        """
        windows = query_windows(hidden, self.window, first_position=first_position, num_new=num_new)
        return self.route_windows(windows.flatten(0, 1))

    def route_windows(self, windows: Tensor) -> TokenRouting:
        """Route tokens whose query windows are already built (see query_windows).

        Args:
            windows: [tokens, window * hidden_size].
        """
        projection = self.query_projection
        queries = functional.linear(windows.float(), projection.weight.float(), projection.bias.float())
        queries, sub_keys = self.norm(queries.view(-1, self.heads, self.key_dim), self.sub_keys.float())
        slots, scores = product_key_topk(queries, sub_keys, self.top_k)
        weights = torch.softmax(scores * self.temperature, dim=-1)
        return TokenRouting(slots.flatten(1), weights.flatten(1), queries.flatten(1))

    def forward(
        self, hidden: Tensor, table: MemoryTable, routing: TokenRouting, *, reads_written: bool = True
    ) -> Tensor:
        """Look the slots up and take them through the output path.

        Args:
            hidden: [batch, time, hidden_size], the tokens' normalised FFN inputs (a gated output reads them).
            table: the value table.
            routing: of batch * time tokens, from route.
            reads_written: whether the table's overlay speaks here; else its base rows alone do.

        Returns:
            [batch, time, hidden_size] in the type of hidden.
        """
        if table.inputs is not None:
            routing = routing._replace(weights=routing.weights * self._activations(hidden, table, routing))
        bag = table(*routing) if reads_written else table.base_bag(routing.slots, routing.weights)
        bag = bag.view(*hidden.shape[:-1], -1).to(hidden.dtype)
        gates = self.output_gates(hidden)
        if gates is not None:
            bag = bag * gates
        output: Tensor = bag if self.output_projection is None else self.output_projection(bag)
        return output

    def output_gates(self, hidden: Tensor) -> Tensor | None:
        """What a gated output multiplies the bag with, [..., value_dim]; None where the output is not gated.

        Args:
            hidden: [..., hidden_size], the tokens' normalised FFN inputs.
        """
        return None if self.gate_projection is None else functional.silu(self.gate_projection(hidden))

    @staticmethod
    def _activations(hidden: Tensor, table: MemoryTable, routing: TokenRouting) -> Tensor:
        """Of single-neuron experts: gelu(<x, input row>), [tokens, heads * k].

        Source: He 2024 (arXiv 2407.04153), section 2.
        """
        return functional.gelu(table.input_dots(hidden.flatten(0, -2).float(), routing.slots))
