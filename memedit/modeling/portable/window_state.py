# SPDX-License-Identifier: Apache-2.0
"""The window of tokens that a memory layer's query sees, and its state in generation.

Part of memedit and of the code that an exported model carries: it needs torch and transformers only. The
memory layer's past inputs are kept in transformers' own cache, as one more cache layer behind the model's
blocks, so that whatever generation does to the cache (beams reorder it, assisted decoding crops it, batches
are repeated and selected) is done to them as well.
"""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer


def query_windows(
    hidden: Tensor, window: int, *, first_position: Tensor | None = None, num_new: int | None = None
) -> Tensor:
    """Put each token's hidden state and those of the window - 1 tokens before it side by side.

    Args:
        hidden: [batch, time, dim], past tokens first.
        window: tokens seen by a query, 1 = the token alone.
        first_position: int64 [batch], each row's first real token; earlier positions repeat it. None = all 0.
        num_new: return windows of the last num_new tokens only; None = all.

    Returns:
        [batch, num_new, window * dim], the token itself first.
    """
    batch, time, dim = hidden.shape
    num_new = time if num_new is None else num_new
    if window == 1:
        return hidden[:, time - num_new :]
    position = torch.arange(time - num_new, time, device=hidden.device)
    source = position[:, None] - torch.arange(window, device=hidden.device)  # [num_new, window]
    if first_position is None:
        source = source.clamp(min=0).expand(batch, -1, -1)
    else:
        # A padding position lies before the first real token: it sees itself only.
        source = source.maximum(first_position.to(hidden.device)[:, None, None]).minimum(position[:, None])
    row = torch.arange(batch, device=hidden.device)[:, None, None] * time
    windows = hidden.reshape(batch * time, dim).index_select(0, (row + source).flatten())
    return windows.view(batch, num_new, window * dim)


def first_real_positions(attention_mask: object) -> Tensor | None:
    """Return each row's first real token, int64 [batch], from a mask [batch, time]; None without a mask.

    Raises:
        ValueError: when the mask is not two-dimensional, so that padding cannot be told.
    """
    if attention_mask is None:
        return None
    if not isinstance(attention_mask, Tensor) or attention_mask.dim() != 2:
        shape = (
            tuple(attention_mask.shape)
            if isinstance(attention_mask, Tensor)
            else type(attention_mask).__name__
        )
        raise ValueError(
            f"attention_mask: got {shape}, expected [batch, time] of 0 and 1: a memory layer with a query "
            "window above 1 has to know where each row starts (compiled and static caches make another "
            "kind of mask; use the default dynamic cache)"
        )
    return (attention_mask != 0).int().argmax(dim=-1)


def extend_window_state(cache: Cache, hidden: Tensor, state_index: int, expected_length: int) -> Tensor:
    """Append new inputs of a memory layer to the cache and return all of them.

    Args:
        cache: the model's cache, whose block layers already hold these tokens.
        hidden: [batch, new, dim].
        state_index: index of the extra cache layer, behind the model's blocks.
        expected_length: tokens in the cache, the new ones included.

    Returns:
        [batch, expected_length, dim].

    Raises:
        ValueError: when the cache has a fixed size, or was filled by a model without this memory layer.
    """
    if any(isinstance(layer, StaticLayer) for layer in cache.layers):
        raise ValueError(
            f"past_key_values: got {type(cache).__name__}, expected a dynamic cache: a memory layer with a "
            "query window above 1 carries a state that static caches have no place for; leave "
            "cache_implementation unset"
        )
    make_layer = cache.layer_class_to_replicate or DynamicLayer
    while len(cache.layers) < state_index:
        cache.layers.append(make_layer())
    while len(cache.layers) <= state_index:
        cache.layers.append(DynamicLayer())
    keys, _ = cache.update(
        hidden[:, None], hidden.new_empty(*hidden.shape[:1], 1, hidden.shape[1], 0), state_index
    )
    history: Tensor = keys[:, 0]
    if history.shape[1] != expected_length:
        raise ValueError(
            f"past_key_values: got a cache of {expected_length - hidden.shape[1]} tokens with "
            f"{history.shape[1] - hidden.shape[1]} inputs of the memory layer; expected a cache that this "
            "model filled"
        )
    return history
