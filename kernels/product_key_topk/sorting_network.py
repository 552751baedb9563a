"""Bitonic sorting networks in registers (Triton code, imported by kernels only).

A block of 2^n elements is viewed as a hypercube of n axes of two, so that an element's partner in a
compare-exchange step is its neighbour along one axis: the sum of the two, less itself (integers wrap, so this
is exact). tl.sort sorts no tuples, and takes half a second a block in Triton's interpreter. Greatest first
throughout.

Source: Batcher 1968, "Sorting networks and their applications"; for the k greatest, Shanbhag et al. 2018,
"Efficient top-k query processing on massively parallel hardware", section 3.
"""

import triton
import triton.language as tl


@triton.jit
def merged(cube, stage: tl.constexpr, LOG_ROW: tl.constexpr):
    """Sort blocks of 2^stage integers that rise and then fall, or fall and then rise.

    Args:
        cube: hypercube of rows of 2^LOG_ROW integers.
        stage: a row's blocks are sorted downwards and upwards in turn, the first one downwards.
        LOG_ROW: axes of a row.
    """
    AXES: tl.constexpr = len(cube.shape)
    place = tl.reshape(tl.arange(0, 2**AXES) & (2**LOG_ROW - 1), cube.shape)
    for bit in tl.static_range(stage - 1, -1, -1):
        partner = tl.sum(cube, axis=AXES - 1 - bit, keep_dims=True) - cube
        takes_greater = ((place >> bit) & 1) == ((place >> stage) & 1)
        cube = tl.where(takes_greater == (cube > partner), cube, partner)
    return cube


@triton.jit
def greatest(keys, LOG_KEYS: tl.constexpr, LOG_BEST: tl.constexpr):
    """The 2^LOG_BEST greatest integers of both rows, greatest first: [2, 2^LOG_KEYS] -> [2, 2^LOG_BEST]."""
    cube = tl.reshape(keys, [2] * (1 + LOG_KEYS))
    for stage in tl.static_range(1, LOG_BEST + 1):
        cube = merged(cube, stage, LOG_KEYS)
    # The greater of a falling and a rising block, one by one, are the greatest of both, falling then rising.
    for log_left in tl.static_range(LOG_KEYS - 1, LOG_BEST - 1, -1):
        cube = merged(tl.max(cube, axis=1 + log_left - LOG_BEST), LOG_BEST, log_left)
    return tl.reshape(cube, [2, 2**LOG_BEST])


@triton.jit
def sorted_by_three(first, second, third, LOG_ROWS: tl.constexpr):
    """Sort 2^LOG_ROWS triples by the first integer, equal ones by the second, then by the third."""
    SHAPE: tl.constexpr = [2] * LOG_ROWS
    place = tl.reshape(tl.arange(0, 2**LOG_ROWS), SHAPE)
    a, b, c = tl.reshape(first, SHAPE), tl.reshape(second, SHAPE), tl.reshape(third, SHAPE)
    for stage in tl.static_range(1, LOG_ROWS + 1):
        for bit in tl.static_range(stage - 1, -1, -1):
            other_a = tl.sum(a, axis=LOG_ROWS - 1 - bit, keep_dims=True) - a
            other_b = tl.sum(b, axis=LOG_ROWS - 1 - bit, keep_dims=True) - b
            other_c = tl.sum(c, axis=LOG_ROWS - 1 - bit, keep_dims=True) - c
            takes_greater = ((place >> bit) & 1) == ((place >> stage) & 1)
            greater = (a > other_a) | ((a == other_a) & ((b > other_b) | ((b == other_b) & (c > other_c))))
            keep = takes_greater == greater
            a, b, c = tl.where(keep, a, other_a), tl.where(keep, b, other_b), tl.where(keep, c, other_c)
    return tl.ravel(a), tl.ravel(b), tl.ravel(c)
