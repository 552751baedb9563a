"""The filter against a dictionary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memedit_kernels.slot_rows import slot_rows


def looked_up(slots, written):
    row_of = {slot: row for row, slot in enumerate(written.tolist())}
    return torch.tensor([row_of.get(slot, -1) for slot in slots.flatten().tolist()]).view(slots.shape)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), num_written=st.integers(0, 40), num_slots=st.integers(1, 60))
def test_equals_a_dictionary(seed, num_written, num_slots):
    generator = torch.Generator().manual_seed(seed)
    written = torch.randint(0, num_slots, (num_written,), generator=generator).unique()
    slots = torch.randint(0, num_slots, (7, 5), generator=generator)
    assert torch.equal(slot_rows(slots, written), looked_up(slots, written))


# The last is so large that a search is quicker than the filter, which the others get.
@pytest.mark.parametrize("num_written", [1, 37, 63, 576, 1000, 100_000])
def test_many_lookups_of_a_large_table(num_written):
    written = torch.randint(0, 2**40, (num_written,)).unique()
    slots = torch.randint(0, 2**40, (100, 64))
    slots[::3, ::5] = written[torch.randint(0, len(written), slots[::3, ::5].shape)]
    assert torch.equal(slot_rows(slots, written), looked_up(slots, written))


def test_slots_with_a_pattern_do_not_pass_the_filter():
    from memedit_kernels.slot_rows import reference

    # Multiples of 64 share their low bits.
    written, others = torch.arange(0, 64 * 500, 64), torch.arange(64 * 500, 64 * 20_000, 64)
    mask = (1 << (500 * 64).bit_length()) - 1
    passes = torch.zeros(mask + 1, dtype=torch.bool)
    passes[reference._spread(written, mask)] = True
    assert float(passes[reference._spread(others, mask)].float().mean()) < 4 / 64
    slots = torch.cat([written, others]).view(-1, 50)
    assert torch.equal(slot_rows(slots, written), looked_up(slots, written))


def test_the_ends_are_found_and_what_lies_beyond_is_not():
    written = torch.tensor([0, 5, 2**62])
    slots = torch.tensor([[0, 5, 2**62], [1, 4, 2**62 + 1], [6, 2**62 - 1, 2**63 - 1]])
    assert slot_rows(slots, written).tolist() == [[0, 1, 2], [-1, -1, -1], [-1, -1, -1]]


def test_strided_input_and_none_at_all():
    written = torch.arange(0, 100, 2)[::2]
    slots = torch.arange(60).view(6, 10).T
    assert torch.equal(slot_rows(slots, written), looked_up(slots, written))
    assert slot_rows(torch.empty(0, 4, dtype=torch.int64), written).shape == (0, 4)
    assert (slot_rows(slots, written[:0]) == -1).all()


@pytest.mark.parametrize("written", [[], [0], [0, 5, 2**62]])
def test_any_number_is_a_slot_that_may_miss(written):
    slots = torch.tensor([[-1, -2, -3], [-(2**63), 2**63 - 1, 1]])
    assert (slot_rows(slots, torch.tensor(written, dtype=torch.int64)) == -1).all()


@pytest.mark.parametrize("written", [[3, 1], [1, 1], [-1, 4]])
def test_refuses_disorder(written):
    with pytest.raises(ValueError, match=r"^written: got"):
        slot_rows(torch.zeros(2, 2, dtype=torch.int64), torch.tensor(written))


def test_refuses_negative_slots_where_that_is_asked():
    slots, written = torch.tensor([[3, -2]]), torch.tensor([3])
    assert slot_rows(slots, written).tolist() == [[0, -1]]
    with pytest.raises(ValueError, match=r"^slots: got numbers in \[-2, 3\], expected 0 or more"):
        slot_rows(slots, written, refuse_negative=True)


def test_refuses_types():
    with pytest.raises(ValueError, match=r"^slots: got torch.int32"):
        slot_rows(torch.zeros(2, dtype=torch.int32), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"^written: got torch.float32"):
        slot_rows(torch.tensor([1]), torch.zeros(2))


def test_registered_as_pytorch_expects(unguarded):
    arguments = (torch.randint(0, 9, (4, 3)), torch.tensor([1, 4, 8]), "written")
    torch.library.opcheck(torch.ops.memedit.slot_rows.default, arguments)


def test_compiles_without_a_break():
    compiled = torch.compile(slot_rows, fullgraph=True, backend="eager")
    slots, written = torch.randint(0, 9, (4, 3)), torch.tensor([1, 4, 8])
    assert torch.equal(compiled(slots, written), looked_up(slots, written))
