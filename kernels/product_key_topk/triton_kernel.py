"""The product-key search in Triton: torch.bmm scores the halves, then a program a token and head selects.

The order with its rule for ties is an order of integers: each score is packed with its key's number, much as
in packing.py, so that maxima and sorting networks need no second look. A half's k best keys come from groups
of keys that are num_groups apart: a running maximum per group over coalesced loads, a top-k of the groups, a
top-k of their members (see best_keys.py). Then the candidate pairs of ranks are sorted by exact sum and slot.
"""

import math

import torch
import triton
import triton.language as tl
from memedit_kernels.addressing import row_start
from memedit_kernels.allocation import new_output
from memedit_kernels.product_key_topk.best_pairs import rank_pairs
from memedit_kernels.product_key_topk.half_scores import half_scores
from memedit_kernels.product_key_topk.reference import product_key_topk_reference
from memedit_kernels.product_key_topk.sorting_network import greatest, sorted_by_three
from torch import Tensor

# Half scores of 256 MB at most are held at a time.
_CHUNK_ELEMENTS = 1 << 26
# What packing leaves over: below every packed score.
_NO_KEY = tl.constexpr(-(1 << 63))
_LOW_BITS = tl.constexpr(0xFFFFFFFF)
_MAGNITUDE_32 = tl.constexpr(0x7FFFFFFF)
_MAGNITUDE_64 = tl.constexpr(0x7FFFFFFFFFFFFFFF)


def block_sizes(num_keys: int, k: int) -> tuple[dict[str, int], dict[str, int]]:
    """Choose the constants of best_keys_kernel and of best_pairs_kernel; 2^LOG_... is a block's size.

    Returns:
        LOG_BEST: ranks kept; LOG_GROUPS: groups of keys, about sqrt(n * k); LOG_KEYS: keys in a group;
        LOG_ROWS: how many of every group are in a tile; LOG_MEMBERS: how many of each of the best groups are;
        num_warps. And LOG_BEST; LOG_PAIRS: candidate pairs; num_warps.
    """
    log_best = max(4, _log2_ceil(k))
    log_groups = min(max(log_best, _log2_ceil(math.isqrt(num_keys * k))), 10)
    log_keys = _log2_ceil(triton.cdiv(num_keys, 2**log_groups))
    # One warp sorts by shuffles alone, as long as the keys fit its registers.
    num_warps = 1 if k <= 32 and log_groups < 10 else 4
    # Keys of one half in a tile: 8 a thread.
    log_tile = 8 + _log2_ceil(num_warps)
    log_pairs = max(5, _log2_ceil(sum(k // (rank + 1) for rank in range(k))))
    keys = {
        "LOG_BEST": log_best,
        "LOG_GROUPS": log_groups,
        "LOG_KEYS": log_keys,
        "LOG_ROWS": min(log_keys, max(0, log_tile - log_groups)),
        "LOG_MEMBERS": min(log_keys, max(0, log_tile - log_best)),
        "num_warps": num_warps,
    }
    return keys, {"LOG_BEST": log_best, "LOG_PAIRS": log_pairs, "num_warps": 1 if log_pairs < 8 else 4}


def _log2_ceil(count: int) -> int:
    return (count - 1).bit_length()


@triton.jit
def ordered_bits(bits, sign, MAGNITUDE: tl.constexpr):
    """Map a float's bits to integers that compare as the floats do, -0.0 equal to +0.0.

    Args:
        bits: the float's bits as an integer.
        sign: the same shifted right, so that all its bits are the sign.
        MAGNITUDE: all bits but the sign.
    """
    return (bits ^ (sign & MAGNITUDE)) - sign


@triton.jit
def float_bits(ordered, sign, MAGNITUDE: tl.constexpr):
    """Map back (-0.0 has become +0.0); arguments as in ordered_bits, which keeps the sign."""
    return (ordered + sign) ^ (sign & MAGNITUDE)


@triton.jit
def packed_scores(scores_ptr, columns, num_keys):
    """Load scores of keys and pack them with the keys' numbers; _NO_KEY beyond the last key."""
    valid = columns < num_keys
    bits = tl.load(scores_ptr + columns, mask=valid, other=0.0).to(tl.int32, bitcast=True)
    ordered = ordered_bits(bits, bits >> 31, _MAGNITUDE_32).to(tl.int64)
    return tl.where(valid, (ordered << 32) | (columns ^ _LOW_BITS), _NO_KEY)


@triton.jit
def key_number(packed):
    """Number of a packed score's key, int64."""
    return (packed & _LOW_BITS) ^ _LOW_BITS


@triton.jit
def score(packed):
    """A packed score, fp64."""
    ordered = (packed >> 32).to(tl.int32)
    return float_bits(ordered, ordered >> 31, _MAGNITUDE_32).to(tl.float32, bitcast=True).to(tl.float64)


@triton.jit
def best_of_tile(tile, LOG_MEMBERS: tl.constexpr, LOG_BEST: tl.constexpr):
    """The greatest of both halves, greatest first: [2, 2^LOG_MEMBERS, 2^LOG_BEST] -> [2, 2^LOG_BEST]."""
    LOG_TILE: tl.constexpr = LOG_MEMBERS + LOG_BEST
    return greatest(tl.reshape(tile, [2, 2**LOG_TILE]), LOG_TILE, LOG_BEST)


@triton.jit(do_not_specialize=["num_tokens"])
def best_keys_kernel(
    scores_ptr, best_ptr, num_tokens, heads, num_keys, LOG_BEST: tl.constexpr, LOG_GROUPS: tl.constexpr,
    LOG_KEYS: tl.constexpr, LOG_ROWS: tl.constexpr, LOG_MEMBERS: tl.constexpr,
):  # fmt: skip
    """Program p finds the best keys of both halves of token p // heads and head p % heads, best first.

    scores [heads, 2, tokens, n]; best int64 [tokens, heads, 2, 2^LOG_BEST], packed scores.
    """
    GROUPS: tl.constexpr = 2**LOG_GROUPS
    program = tl.program_id(0).to(tl.int64)
    half = tl.arange(0, 2)[:, None]
    line = (program % heads * 2 + half) * num_tokens + program // heads
    halves_ptr = scores_ptr + row_start(line, num_keys)[:, :, None]
    group = tl.arange(0, GROUPS).to(tl.int64)[None, None, :]
    row = tl.arange(0, 2**LOG_ROWS)[None, :, None]
    maxima = tl.full([2, GROUPS], _NO_KEY, tl.int64)
    for first in range(0, 2**LOG_KEYS, 2**LOG_ROWS):
        tile = packed_scores(halves_ptr, (first + row) * GROUPS + group, num_keys)
        maxima = tl.maximum(maxima, tl.max(tile, axis=1))
    # With fewer groups than ranks, _NO_KEY among the best decodes to the last group, which has no key either.
    chosen = key_number(greatest(maxima, LOG_GROUPS, LOG_BEST)) & (GROUPS - 1)
    columns = tl.arange(0, 2**LOG_MEMBERS)[None, :, None] * GROUPS + chosen[:, None, :]
    best = best_of_tile(packed_scores(halves_ptr, columns, num_keys), LOG_MEMBERS, LOG_BEST)
    for first in range(2**LOG_MEMBERS, 2**LOG_KEYS, 2**LOG_MEMBERS):
        tile = packed_scores(halves_ptr, columns + first * GROUPS, num_keys)
        both = tl.interleave(best, best_of_tile(tile, LOG_MEMBERS, LOG_BEST))
        best = greatest(both, LOG_BEST + 1, LOG_BEST)
    rank = tl.arange(0, 2**LOG_BEST)[None, :]
    tl.store(best_ptr + row_start(program * 2 + half, 2**LOG_BEST) + rank, best)


@triton.jit
def best_pairs_kernel(
    best_ptr, ranks_ptr, slots_ptr, sums_ptr, num_keys, k, num_pairs, LOG_BEST: tl.constexpr,
    LOG_PAIRS: tl.constexpr,
):  # fmt: skip
    """Program p chooses the k best pairs of the keys that best_keys_kernel's program p found.

    ranks int64 [2, pairs]; slots and sums [tokens, heads, k], by exact sum, then slot.
    """
    program = tl.program_id(0).to(tl.int64)
    pair = tl.arange(0, 2**LOG_PAIRS)
    valid = pair < num_pairs
    first_ptr = best_ptr + row_start(program * 2, 2**LOG_BEST)
    first_rank = tl.load(ranks_ptr + pair, mask=valid, other=0)
    second_rank = tl.load(ranks_ptr + num_pairs + pair, mask=valid, other=0)
    first, second = tl.load(first_ptr + first_rank), tl.load(first_ptr + 2**LOG_BEST + second_rank)
    slots = key_number(first) * num_keys + key_number(second)
    first_score, second_score = score(first), score(second)
    sums = first_score + second_score
    # What rounding took from the sum (Knuth's two-sum) tells equal sums apart; it always fits fp32.
    taken = sums - first_score
    errors = ((first_score - (sums - taken)) + (second_score - taken)).to(tl.float32)
    sum_bits, error_bits = sums.to(tl.int64, bitcast=True), errors.to(tl.int32, bitcast=True)
    ordered_sums = tl.where(valid, ordered_bits(sum_bits, sum_bits >> 63, _MAGNITUDE_64), _NO_KEY)
    ordered_errors = ordered_bits(error_bits, error_bits >> 31, _MAGNITUDE_32)
    ordered_sums, ordered_errors, below = sorted_by_three(ordered_sums, ordered_errors, -slots, LOG_PAIRS)
    sum_bits = float_bits(ordered_sums, ordered_sums >> 63, _MAGNITUDE_64)
    place = row_start(program, k) + pair
    tl.store(slots_ptr + place, -below, mask=pair < k)
    tl.store(sums_ptr + place, sum_bits.to(tl.float64, bitcast=True).to(tl.float32), mask=pair < k)


def product_key_topk_triton(queries: Tensor, sub_keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Score the halves and run the kernels; arguments and result as in product_key_topk.

    fp64 is there for gradient checks only and goes to the reference.
    """
    if queries.dtype == torch.float64:
        return product_key_topk_reference(queries, sub_keys, k)
    num_tokens, heads, _ = queries.shape
    num_keys = sub_keys.shape[2]
    slots = new_output((num_tokens, heads, k), torch.int64, queries.device)
    sums = new_output((num_tokens, heads, k), torch.float32, queries.device)
    sub_keys = sub_keys.float()
    ranks = rank_pairs(k, queries.device)
    chunk = max(1, _CHUNK_ELEMENTS // (heads * 2 * num_keys))
    for start in range(0, num_tokens, chunk):
        scores = half_scores(queries[start : start + chunk], sub_keys)
        _select(scores, ranks, slots[start : start + chunk], sums[start : start + chunk])
    return slots, sums


def _select(scores: Tensor, ranks: Tensor, slots: Tensor, sums: Tensor) -> None:
    """Fill the slots and sums [tokens, heads, k] of a chunk from its scores [heads, 2, tokens, n]."""
    heads, _, num_tokens, num_keys = scores.shape
    k = slots.shape[2]
    keys_blocks, pairs_blocks = block_sizes(num_keys, k)
    grid = (num_tokens * heads,)
    best = new_output((*grid, 2, 2 ** keys_blocks["LOG_BEST"]), torch.int64, scores.device)
    best_keys_kernel[grid](scores, best, num_tokens, heads, num_keys, **keys_blocks)
    best_pairs_kernel[grid](best, ranks, slots, sums, num_keys, k, ranks.shape[1], **pairs_blocks)
