"""product_key_topk against brute force over all n*n slots, and against the package product-key-memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from memedit_kernels.product_key_topk import product_key_topk
from torch import Tensor

from benchmarks.ops.cases import Case

HEADS, TOP_K, KEY_DIM = 4, 16, 128


def _inputs(case: Case) -> tuple[Tensor, Tensor, int]:
    """Queries [tokens, heads, key_dim], sub-keys [heads, 2, n, key_dim / 2], and n."""
    generator = torch.Generator().manual_seed(0)
    num_keys = round(case.num_slots**0.5)
    queries = torch.randn(case.tokens, HEADS, KEY_DIM, generator=generator)
    return queries, torch.randn(HEADS, 2, num_keys, KEY_DIM // 2, generator=generator), num_keys


def memedit_search(case: Case) -> Callable[[], Callable[[], object]]:
    """product_key_topk."""
    queries, sub_keys, _ = _inputs(case)
    return lambda: lambda: product_key_topk(queries, sub_keys, TOP_K)


def brute_force(case: Case) -> Callable[[], Callable[[], object]]:
    """torch.topk over all n*n sums of a head, a few tokens at a time."""
    queries, sub_keys, _ = _inputs(case)
    first, second = queries.split(KEY_DIM // 2, dim=-1)

    @torch.no_grad()
    def run() -> None:
        for start in range(0, case.tokens, 16):
            part = slice(start, start + 16)
            one = torch.einsum("thd,hnd->thn", first[part], sub_keys[:, 0])
            two = torch.einsum("thd,hnd->thn", second[part], sub_keys[:, 1])
            (one[..., :, None] + two[..., None, :]).flatten(-2).topk(TOP_K, dim=-1)

    return lambda: run


def package(case: Case) -> Callable[[], Callable[[], object]]:
    """The look-up of product_key_memory.PKM: its forward without query projection, norm and values."""
    queries, sub_keys, num_keys = _inputs(case)
    memory, captured = stripped_package(sub_keys, num_keys)
    together = package_queries(queries)

    @torch.no_grad()
    def run() -> Tensor:
        memory(together)
        return captured["slots"]

    return lambda: run


def stripped_package(sub_keys: Tensor, num_keys: int) -> tuple[Any, dict[str, Tensor]]:
    """A PKM whose look-up alone is left, with our sub-keys, and where its slots and weights are put."""
    try:
        from product_key_memory import PKM
    except ImportError as error:
        raise SystemExit("product-key-memory is not installed: pip install 'memedit[bench]'") from error
    captured: dict[str, Tensor] = {}

    class Capture(torch.nn.Module):
        def forward(self, slots: Tensor, per_sample_weights: Tensor) -> Tensor:
            captured["slots"], captured["weights"] = slots, per_sample_weights
            return per_sample_weights

    memory = PKM(dim=8, heads=HEADS, num_keys=num_keys, topk=TOP_K, dim_head=KEY_DIM // 2)
    memory.to_queries = memory.norm = torch.nn.Identity()
    memory.values = Capture()
    # Its keys are [heads, n, half, width].
    memory.keys = torch.nn.Parameter(sub_keys.transpose(1, 2).contiguous())
    return memory, captured


def package_queries(queries: Tensor) -> Tensor:
    """Our queries [tokens, heads, key_dim] in the package's order, [1, tokens, 2 * heads * width]."""
    tokens, heads, _ = queries.shape
    return queries.view(tokens, heads, 2, -1).transpose(1, 2).reshape(1, tokens, -1)


SEARCHES = {
    "product_key_topk": memedit_search,
    "brute force": brute_force,
    "product-key-memory": package,
}
