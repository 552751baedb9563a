"""Token trees: every row once, every beginning once, and each node sees what its row has before it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memedit.modeling import query_windows
from memedit.modeling.lower_blocks import ffn_inputs, tree_ffn_inputs
from memedit.modeling.token_tree import token_trees

ROWS = st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=12)


@settings(deadline=None, max_examples=200)
@given(ROWS, st.integers(1, 30))
def test_every_row_is_there_and_every_beginning_once(rows, max_nodes):
    trees = token_trees(rows, max_nodes)
    assert sorted(index for tree in trees for index in tree.rows) == list(range(len(rows)))
    for tree in trees:
        beginnings = set()
        for index, path in zip(tree.rows, tree.paths, strict=True):
            assert tree.tokens[path].tolist() == rows[index]
            assert tree.depths[path].tolist() == list(range(len(rows[index])))
            # Each token's parent is the one before it in the row.
            assert tree.parents[path].tolist() == [-1, *path.tolist()][: len(path)]
            beginnings |= {tuple(rows[index][: at + 1]) for at in range(len(rows[index]))}
        assert len(tree.tokens) == len(beginnings)
        assert len(tree.rows) == 1 or len(tree.tokens) <= max_nodes


@settings(deadline=None, max_examples=100)
@given(ROWS)
def test_a_node_sees_itself_and_its_ancestors(rows):
    for tree in token_trees(rows):
        sees = tree.mask(torch.float32) == 0
        for path in tree.paths:
            for place, node in enumerate(path.tolist()):
                assert sees[node].nonzero().flatten().tolist() == sorted(path[: place + 1].tolist())


@pytest.mark.parametrize("window", [1, 3, 6])
def test_windows_are_those_of_whole_rows(window):
    rows = [[1, 2, 3, 4], [1, 2, 5], [1], [7, 2, 3]]
    (tree,) = token_trees(rows)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(tree.tokens), 5, generator=generator)
    found = tree.windows(hidden, window)
    for path in tree.paths:
        assert torch.equal(found[path], query_windows(hidden[path][None], window)[0])


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_lower_blocks_give_what_whole_rows_get(tiny_llama, tiny_memory_llama, layer):
    rows = [[1, *range(5, 25)], [1, *range(5, 12), 40, 41], [1, 9], [1, *range(5, 12)]]
    for model in (tiny_llama, tiny_memory_llama(memory_layers=[layer], memory_empty_base=True)):
        (tree,) = token_trees(rows)
        residual, normalised = tree_ffn_inputs(model, layer, tree)
        for index, path in zip(tree.rows, tree.paths, strict=True):
            expected = ffn_inputs(model, layer, torch.tensor([rows[index]]))
            torch.testing.assert_close(residual[path], expected[0][0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(normalised[path], expected[1][0], rtol=1e-4, atol=1e-4)


def test_no_rows_make_no_tree():
    assert token_trees([]) == []
    (tree,) = token_trees([[], []])
    assert (len(tree.tokens), tree.rows, [len(path) for path in tree.paths]) == (0, (0, 1), [0, 0])
    assert tree.mask(torch.float32).shape == (0, 0)
