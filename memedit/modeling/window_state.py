"""The state of a query window in generation: the memory layer's past inputs, kept in transformers' own cache.

They are stored as one more cache layer behind the model's blocks, so that whatever generation does to the
cache (beams reorder it, assisted decoding crops it, batches are repeated and selected) is done to them as
well.
"""

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, StaticLayer


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
