"""The product-key search against all n * n sums, sorted."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from every_sum import every_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.product_key_topk import half_scores, product_key_topk
from memedit_kernels.product_key_topk import reference as reference_module

# Half scores among which sums tie exactly, tie only after rounding to fp64 or fp32, or nearly tie.
AWKWARD = (
    0.0, -0.0, 1.0, -1.0, 1 + 2**-23, 1 - 2**-24, 2.0**24, 2.0**24 + 2, 1e30, -1e30, 1e-30, -1e-30, 2.0**-149,
    -(2.0**-149), 2.0**-126, 0.1, 0.2, 0.3, 1.5e38, -1.5e38,
)  # fmt: skip


def examples(count: int) -> int:
    """Hypothesis examples: fewer in Triton's interpreter, where a program takes about 0.1 s."""
    import os

    return max(8, count // 8) if os.environ.get("MEMEDIT_KERNELS") == "triton" else count


def brute_force(first, second, k):
    """The k best of all pairs of two halves' fp32 scores [n], by exact sum, then slot."""
    first, second = ([Fraction(score) for score in half.tolist()] for half in (first, second))
    num_keys = len(second)
    sums = [
        (-(one + other), i * num_keys + j) for i, one in enumerate(first) for j, other in enumerate(second)
    ]
    return [slot for _, slot in sorted(sums)[:k]]


def assert_equals_brute_force(queries, sub_keys, k):
    """For key_dim 2: a half's score is one product, rounded once, however it is computed."""
    slots, scores = product_key_topk(queries, sub_keys, k)
    num_keys = sub_keys.shape[2]
    for token in range(queries.shape[0]):
        for head in range(queries.shape[1]):
            first, second = (queries[token, head, half] * sub_keys[head, half, :, 0] for half in (0, 1))
            expected = torch.tensor(brute_force(first, second, k))
            assert slots[token, head].tolist() == expected.tolist()
            sums = first[expected // num_keys] + second[expected % num_keys]
            assert torch.equal(scores[token, head], sums)


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data())
def test_equals_brute_force_with_many_ties(data):
    heads, num_keys = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 30))
    k = data.draw(st.integers(1, num_keys))
    levels = data.draw(st.integers(1, len(AWKWARD)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    pool = torch.tensor(AWKWARD)[torch.randperm(len(AWKWARD), generator=generator)[:levels]]
    sub_keys = pool[torch.randint(0, levels, (heads, 2, num_keys, 1), generator=generator)]
    queries = torch.tensor([1.0, -1.0, 0.5])[torch.randint(0, 3, (1, heads, 2), generator=generator)]
    assert_equals_brute_force(queries, sub_keys, k)


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**31), num_keys=st.integers(1, 30), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_near_ties_are_ordered_by_the_exact_sum(seed, num_keys, scale):
    generator = torch.Generator().manual_seed(seed)
    # The second half's scores are so much larger that fp32 sums of different slots collide.
    queries = torch.stack([torch.randn(2, 1, generator=generator) * scale, torch.full((2, 1), 512.0)], dim=-1)
    sub_keys = torch.randn(1, 2, num_keys, 1, generator=generator)
    assert_equals_brute_force(queries, sub_keys, min(8, num_keys))


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_equals_brute_force_with_many_columns(data):
    """Small integers: scores are exact, and most of them tie."""
    tokens, heads = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    num_keys, half = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    k = data.draw(st.integers(1, num_keys))
    levels = data.draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    queries = torch.randint(-levels, levels + 1, (tokens, heads, 2 * half), generator=generator).float()
    sub_keys = torch.randint(-levels, levels + 1, (heads, 2, num_keys, half), generator=generator).float()
    slots, scores = product_key_topk(queries, sub_keys, k)
    full = every_sum(queries, sub_keys)
    expected, order = full.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(slots, order[..., :k])
    assert torch.equal(scores.double(), expected[..., :k])


# Numbers of keys that fill groups and blocks, and that do not; k of one key, of all, and of the most.
SIZES = [
    (1, 1), (2, 1), (37, 16), (63, 63), (128, 128), (130, 128), (300, 1), (512, 16), (576, 32), (1000, 5),
    (1000, 100),
]  # fmt: skip


@pytest.mark.parametrize(("num_keys", "k"), SIZES)
def test_many_keys_with_many_ties(num_keys, k):
    queries = torch.randint(-1, 2, (2, 1, 4)).float()
    sub_keys = torch.randint(-1, 2, (1, 2, num_keys, 2)).float()
    slots, scores = product_key_topk(queries, sub_keys, k)
    expected, order = every_sum(queries, sub_keys).sort(dim=-1, descending=True, stable=True)
    assert torch.equal(slots, order[..., :k])
    assert torch.equal(scores.double(), expected[..., :k])


@pytest.mark.parametrize(("num_keys", "k"), SIZES)
def test_where_everything_ties_the_first_slots_win(num_keys, k):
    slots, scores = product_key_topk(torch.zeros(2, 1, 4), torch.randn(1, 2, num_keys, 2), k)
    assert slots.tolist() == [[list(range(k))]] * 2
    assert not scores.any()


@pytest.mark.parametrize(("num_keys", "k"), [(9, 2), (35, 4), (67, 3), (131, 2)])
def test_the_last_keys_are_best_and_do_not_fill_a_group(num_keys, k):
    sub_keys = torch.arange(num_keys).float().expand(1, 2, -1)[..., None] * 1e36
    for sign in (1.0, -1.0):
        assert_equals_brute_force(torch.full((1, 1, 2), sign), sub_keys, k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("tokens", "num_keys", "key_dim"), [(37, 63, 10), (1, 512, 256), (1000, 17, 6)])
def test_odd_and_large_sizes(tokens, num_keys, key_dim, dtype, on_triton):
    tokens = min(tokens, 4) if on_triton else tokens
    queries = torch.randn(tokens, 2, key_dim).to(dtype)
    sub_keys = torch.randn(2, 2, num_keys, key_dim // 2).to(dtype)
    slots, scores = product_key_topk(queries, sub_keys, 16)
    assert scores.dtype == torch.float32
    full = every_sum(queries, sub_keys)
    # Both halves' sums of key_dim / 2 products in fp32, and their sum: each rounding is relative to at most
    # the sum of the products' sizes.
    sizes = every_sum(queries.abs(), sub_keys.abs())
    tolerance = (key_dim / 2 + 1) * torch.finfo(torch.float32).eps * float(sizes.max())
    torch.testing.assert_close(scores.double(), full.gather(-1, slots), atol=tolerance, rtol=0)
    torch.testing.assert_close(scores.double(), full.topk(16, dim=-1).values, atol=tolerance, rtol=0)
    assert (scores.diff(dim=-1) <= 0).all()
    assert all(len(set(row)) == 16 for row in slots.flatten(0, 1).tolist())


def test_slots_beyond_32_bits():
    num_keys = 65536
    sub_keys = torch.zeros(1, 2, num_keys, 1)
    sub_keys[0, :, -1] = 2.0
    sub_keys[0, :, 40000] = 1.0
    slots, scores = product_key_topk(torch.ones(1, 1, 2), sub_keys, 3)
    last = num_keys - 1
    assert slots.flatten().tolist() == [
        last * num_keys + last,
        40000 * num_keys + last,
        last * num_keys + 40000,
    ]
    assert scores.flatten().tolist() == [4.0, 3.0, 3.0]


def test_strided_inputs():
    queries, sub_keys = (
        torch.randn(12, 6, 3).transpose(0, 2)[:, ::3],
        torch.randn(5, 3, 2, 2).permute(3, 2, 0, 1),
    )
    sub_keys = torch.cat([sub_keys, sub_keys], dim=-1)[..., ::2].repeat(1, 1, 1, 3)[..., :6]
    assert not queries.is_contiguous()
    assert not sub_keys.is_contiguous()
    strided = product_key_topk(queries, sub_keys, 4)
    contiguous = product_key_topk(queries.contiguous(), sub_keys.contiguous(), 4)
    assert torch.equal(strided[0], contiguous[0])
    assert torch.equal(strided[1], contiguous[1])


def test_chunks_give_what_one_piece_gives(monkeypatch, on_triton):
    if on_triton:
        from memedit_kernels.product_key_topk import triton_kernel as module
    else:
        module = reference_module
    queries, sub_keys = torch.randint(-2, 3, (5, 2, 4)).float(), torch.randint(-2, 3, (2, 2, 9, 2)).float()
    whole = product_key_topk(queries, sub_keys, 5)
    sizes = []

    def recorded(*arguments, scores_of=module.half_scores):
        scores = scores_of(*arguments)
        sizes.append(scores.numel())
        return scores

    budget = 2 * 2 * 2 * 9 + 1
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", budget)
    monkeypatch.setattr(module, "half_scores", recorded)
    chunked = product_key_topk(queries, sub_keys, 5)
    assert torch.equal(whole[0], chunked[0])
    assert torch.equal(whole[1], chunked[1])
    # Two tokens' scores fit at a time: the memory does not grow with the number of tokens.
    assert sizes == [72, 72, 36]


def test_no_tokens():
    queries = torch.empty(0, 2, 4, requires_grad=True)
    sub_keys = torch.zeros(2, 2, 3, 2, requires_grad=True)
    slots, scores = product_key_topk(queries, sub_keys, 3)
    assert slots.shape == scores.shape == (0, 2, 3)
    assert slots.dtype == torch.int64
    scores.sum().backward()
    assert queries.grad.shape == (0, 2, 4)
    assert not sub_keys.grad.any()


def test_zero_and_minus_zero_tie():
    sub_keys = torch.tensor([[[[-0.0], [0.0]], [[0.0], [-0.0]]]])
    slots, _ = product_key_topk(torch.ones(1, 1, 2), sub_keys, 2)
    assert slots.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("lowered", ["matmul", "autocast"])
def test_low_precision_products_do_not_reach_the_routing(lowered):
    queries, sub_keys = torch.randn(3, 2, 128), torch.randn(2, 2, 64, 64)
    expected = product_key_topk(queries, sub_keys, 8)
    before = torch.get_float32_matmul_precision()
    if lowered == "matmul":
        torch.set_float32_matmul_precision("medium")
    try:
        setting = matmul_precision()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered == "autocast"):
            got = product_key_topk(queries, sub_keys, 8)
        assert matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="nothing is inherited before 2.9")
def test_a_precision_that_is_inherited_stays_inherited():
    matmuls = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = torch.backends.fp32_precision
    own = [matmul.fp32_precision for matmul in matmuls]
    try:
        for matmul in matmuls:
            matmul.fp32_precision = "none"
        torch.backends.fp32_precision = "tf32"
        product_key_topk(torch.randn(3, 2, 8), torch.randn(2, 2, 6, 4), 2)
        assert [matmul.fp32_precision for matmul in matmuls] == ["tf32", "tf32"]
        torch.backends.fp32_precision = "ieee"
        assert [matmul.fp32_precision for matmul in matmuls] == ["ieee", "ieee"]
    finally:
        torch.backends.fp32_precision = before
        for matmul, precision in zip(matmuls, own, strict=True):
            matmul.fp32_precision = precision


def test_the_one_setting_of_older_versions_is_put_back():
    before = torch.get_float32_matmul_precision()
    settings = half_scores._SettingsBeforeTorch29()
    try:
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            found, settings.fp32_precision = settings.fp32_precision, "ieee"
            assert torch.get_float32_matmul_precision() == "highest"
            half_scores._put_back(settings, found)
            assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def matmul_precision():
    """What the process has set, by either of torch's interfaces."""
    backends = torch.backends
    newer = [backends.cuda.matmul, backends.mkldnn.matmul] if hasattr(backends.mkldnn, "matmul") else []
    return torch.get_float32_matmul_precision(), [settings.fp32_precision for settings in newer]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("argument", ["queries", "sub_keys"])
def test_refuses_non_finite(bad, argument):
    given_arguments = {"queries": torch.randn(3, 2, 4), "sub_keys": torch.randn(2, 2, 5, 2)}
    given_arguments[argument].view(-1)[3] = bad
    with pytest.raises(ValueError, match=r"^queries and sub_keys: got (NaN|infinite).*, expected finite"):
        product_key_topk(**given_arguments, k=2)


def test_refuses_scores_whose_sum_overflows():
    with pytest.raises(ValueError, match=r"^queries and sub_keys: got infinite or huge"):
        product_key_topk(torch.ones(1, 1, 2), torch.full((1, 2, 3, 1), 2e38), 2)


@pytest.mark.parametrize(
    ("queries", "sub_keys", "k", "named"),
    [
        ((3, 8), (2, 2, 5, 2), 2, "queries"),
        ((3, 2, 5), (2, 2, 5, 2), 2, "queries"),
        ((3, 2, 0), (2, 2, 5, 0), 2, "queries"),
        ((3, 0, 4), (0, 2, 5, 2), 2, "queries"),
        ((3, 2, 4), (3, 2, 5, 2), 2, "sub_keys"),
        ((3, 2, 4), (2, 1, 5, 2), 2, "sub_keys"),
        ((3, 2, 4), (2, 2, 5, 4), 2, "sub_keys"),
        ((3, 2, 4), (2, 5, 2), 2, "sub_keys"),
        ((3, 2, 4), (2, 2, 0, 2), 1, "k"),
        ((3, 2, 4), (2, 2, 5, 2), 0, "k"),
        ((3, 2, 4), (2, 2, 5, 2), 6, "k"),
        ((3, 2, 4), (2, 2, 5, 2), 2.0, "k"),
        ((3, 2, 4), (2, 2, 200, 2), 129, "k"),
    ],
)
def test_refuses_what_does_not_fit(queries, sub_keys, k, named):
    with pytest.raises(ValueError, match=f"^{named}: got .*, expected"):
        product_key_topk(torch.zeros(queries), torch.zeros(sub_keys), k)


@pytest.mark.parametrize(
    ("queries", "sub_keys", "named"),
    [
        (torch.int64, torch.int64, "queries"),
        (torch.bfloat16, torch.float32, "sub_keys"),
        (torch.float32, torch.float64, "sub_keys"),
    ],
)
def test_refuses_types(queries, sub_keys, named):
    with pytest.raises(ValueError, match=f"^{named}: got torch"):
        product_key_topk(torch.zeros(1, 1, 2, dtype=queries), torch.zeros(1, 2, 3, 1, dtype=sub_keys), 1)


def test_refuses_different_devices():
    with pytest.raises(ValueError, match="different devices"):
        product_key_topk(torch.zeros(1, 1, 2), torch.zeros(1, 2, 3, 1, device="meta"), 1)
