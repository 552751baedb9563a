"""The public product-key search: checks its arguments and hands them to PyTorch's dispatcher."""

from typing import Any

import torch
from memedit_kernels.arguments import TABLE_TYPES, check_count, check_device
from memedit_kernels.backend import defer_dynamo, register_triton
from memedit_kernels.product_key_topk.gradient import product_key_topk_gradient
from memedit_kernels.product_key_topk.reference import product_key_topk_reference
from torch import Tensor

MAX_K = 128
"""Most slots that a head can look up; a select kernel sorts them in registers."""


def product_key_topk(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k slots with the highest product-key scores for each token and head.

    Slot i * n + j scores <first half of the query, sub_keys[h, 0, i]> + <second half, sub_keys[h, 1, j]>. The
    halves' scores are computed in fp32 whatever the inputs' type and the process's settings (autocast, TF32).
    From there on the answer is exact, and the same on every backend: slots are ordered by the exact sum of
    the two, and equal sums by slot id, lower first. Scores carry gradients to both inputs.

    Args:
        queries: fp32, bf16 or fp16 (fp64 for gradient checks) [tokens, heads, key_dim], key_dim even.
        sub_keys: in the type of queries [heads, 2, n, key_dim / 2], n below 2^31.
        k: slots per head, 1 <= k <= min(n, 128).

    Returns:
        slots int64 [tokens, heads, k] and scores fp32 (fp64 for fp64 inputs) [tokens, heads, k], best first.

    Raises:
        ValueError: when shapes, types, devices or k do not fit, or a score is not finite.

    Source: Lample et al. 2019 (arXiv 1907.05242), section 3.2.
    """
    if queries.dim() != 3 or queries.shape[2] % 2 or 0 in queries.shape[1:]:
        raise ValueError(
            f"queries: got shape {tuple(queries.shape)}, expected [tokens, heads, key_dim], key_dim even"
        )
    _, heads, key_dim = queries.shape
    if sub_keys.dim() != 4 or sub_keys.shape[:2] != (heads, 2) or sub_keys.shape[3] != key_dim // 2:
        raise ValueError(
            f"sub_keys: got shape {tuple(sub_keys.shape)}, expected [{heads}, 2, n, {key_dim // 2}] for "
            f"queries of shape {tuple(queries.shape)}"
        )
    if queries.dtype not in TABLE_TYPES:
        raise ValueError(
            f"queries: got {queries.dtype}, expected torch.float32, torch.bfloat16 or torch.float16"
        )
    if sub_keys.dtype != queries.dtype:
        raise ValueError(f"sub_keys: got {sub_keys.dtype}, expected {queries.dtype} as in queries")
    check_device(queries=queries, sub_keys=sub_keys)
    num_keys = sub_keys.shape[2]
    most = min(num_keys, MAX_K)
    check_count("k", k, 1, most, expected=f"an integer from 1 to min(n, {MAX_K}) = {most}")
    slots, scores = _product_key_topk(queries, sub_keys, k)
    return slots, scores


@torch.library.custom_op("memedit::product_key_topk", mutates_args=())
def _product_key_topk(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return product_key_topk_reference(queries, sub_keys, k)


@_product_key_topk.register_fake
def _(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape = (*queries.shape[:2], k)
    score_type = torch.promote_types(queries.dtype, torch.float32)
    return queries.new_empty(shape, dtype=torch.int64), queries.new_empty(shape, dtype=score_type)


@torch.library.custom_op("memedit::product_key_topk_backward", mutates_args=())
def _product_key_topk_backward(
    grad_scores: Tensor,
    slots: Tensor,
    queries: Tensor,
    sub_keys: Tensor,
    for_queries: bool,
    for_sub_keys: bool,
) -> tuple[Tensor, Tensor]:
    return product_key_topk_gradient(grad_scores, slots, queries, sub_keys, for_queries, for_sub_keys)


@_product_key_topk_backward.register_fake
def _(
    grad_scores: Tensor,  # noqa: ARG001
    slots: Tensor,  # noqa: ARG001
    queries: Tensor,
    sub_keys: Tensor,
    for_queries: bool,
    for_sub_keys: bool,
) -> tuple[Tensor, Tensor]:
    return (
        queries.new_empty(queries.shape if for_queries else 0),
        sub_keys.new_empty(sub_keys.shape if for_sub_keys else 0),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, sub_keys, _ = inputs
    ctx.save_for_backward(output[0], queries, sub_keys)


def _backward(ctx: Any, _: Tensor | None, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
    for_queries, for_sub_keys, _k = ctx.needs_input_grad
    gradients = _product_key_topk_backward(grad_scores, *ctx.saved_tensors, for_queries, for_sub_keys)
    return (gradients[0] if for_queries else None, gradients[1] if for_sub_keys else None, None)


_product_key_topk.register_autograd(_backward, setup_context=_save_for_backward)

# It has no kernel of its own: the ops that its body calls choose theirs.
defer_dynamo(_product_key_topk_backward)
register_triton(
    _product_key_topk, "memedit_kernels.product_key_topk.triton_kernel", "product_key_topk_triton"
)
