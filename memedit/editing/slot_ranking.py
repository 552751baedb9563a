"""Slots of a whole edit, ranked by how its tokens use them: what sparse memory finetuning does.

No subject owns a slot and no gate guards it: a written row counts wherever routing finds it. Kept beside the
selection by subject (selection.py) to be compared with it.

Source: TF-IDF, Lin et al. 2025 (arXiv 2510.15103), section 3; KL, the terms of Kullback & Leibler 1951.
"""

from collections.abc import Sequence

import torch
from memedit_kernels.slot_bag import UNGATED
from torch import Tensor

from memedit.editing.row_states import RowState
from memedit.editing.selection import Ranking, Selection
from memedit.modeling.background import BackgroundStatistics


def select_for_edit(
    states: Sequence[RowState],
    background: BackgroundStatistics,
    ranking: Ranking,
    *,
    slots_per_subject: int,
    num_subjects: int,
    taken: Tensor,
) -> Selection:
    """Choose the slots of an edit by the look-ups of all tokens of its rows.

    Args:
        states: the rows at the memory layer.
        background: document frequencies of the slots.
        ranking: "tfidf", "tf", "kl", or "all" for every slot that is looked up.
        slots_per_subject: how many slots a subject adds; "all" has no limit.
        num_subjects: subjects of the edit.
        taken: int64, slots that belong to others already.

    Returns:
        Slots without owners, and a threshold of 0 for each subject.
    """
    num_slots = len(background.document_frequency)
    counts = torch.zeros(num_slots)
    for state in states:
        counts += torch.bincount(state.slots.flatten(), minlength=num_slots)
    scores = slot_scores(counts, background, ranking)
    scores[counts == 0] = float("-inf")
    scores[taken] = float("-inf")
    num_found = int(scores.isfinite().sum())
    wanted = num_found if ranking == "all" else min(num_found, slots_per_subject * num_subjects)
    slots = scores.argsort(descending=True, stable=True)[:wanted].sort().values
    return Selection(slots, torch.full_like(slots, UNGATED), torch.zeros(num_subjects))


def slot_scores(counts: Tensor, background: BackgroundStatistics, ranking: Ranking) -> Tensor:
    """Score slots by the look-ups of an edit.

    Args:
        counts: fp32 [slots], look-ups of each slot in the edit.
        background: document frequencies of the slots.
        ranking: "tfidf": c_i / sum c * log((B + 1) / (df_i + 1)), B documents; "tf" and "all": c_i / sum c;
            "kl": p_i log(p_i / q_i), p the edit's look-ups and q the background's, taken from its document
            frequencies, one added to each.

    Returns:
        fp32 [slots].
    """
    share = counts / counts.sum().clamp(min=1)
    if ranking == "tfidf":
        return share * background.inverse_document_frequency()
    if ranking == "kl":
        smoothed = background.document_frequency.float() + 1
        return torch.xlogy(share, share * smoothed.sum() / smoothed)
    return share
