"""Slot selection: which slots are written for which subject, and when the subject's gate opens.

A subject gets the slots that its own wordings use at its last token, minus what look-alike names use there, ranked
against how often background text uses them (TF-IDF with contrast). A slot has one owner. The gate's threshold lies
between the mass that look-alikes reach and the mass that the subject itself reaches.

Source: TF-IDF ranking of slots, Lin et al. 2025 (arXiv 2510.15103), section 3; contrast, exclusive ownership and
thresholds are ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from memedit.editing.row_states import SubjectRouting
from memedit.modeling import lookup_owners, written_rows


@dataclass(frozen=True)
class SelectionSettings:
    """How slots are chosen.

    Attributes:
        slots_per_subject: at most this many, for each subject.
        contrast: how much a look-alike's use of a slot counts against it.
        threshold_position: where the threshold lies between look-alikes (0) and subject (1).
        min_threshold: least routing mass that opens a gate.
        low_quantile: quantile of the subject's own masses that stands for "what it reaches".
        min_idf: floor of the inverse document frequency, so that a subject known to everyone still finds slots.
    """

    slots_per_subject: int = 64
    contrast: float = 2.0
    threshold_position: float = 0.4
    min_threshold: float = 0.25
    low_quantile: float = 0.1
    min_idf: float = 0.05


@dataclass(frozen=True)
class Selection:
    """The slots that an edit may write.

    Attributes:
        slots: int64 [n], ascending.
        owners: int64 [n], index of the subject.
        thresholds: fp32 [subjects].
    """

    slots: Tensor
    owners: Tensor
    thresholds: Tensor

    def num_slots(self) -> Tensor:
        """Slots of each subject, int64 [subjects]."""
        return torch.bincount(self.owners, minlength=len(self.thresholds))


def select_slots(
    taught: SubjectRouting,
    look_alikes: SubjectRouting,
    inverse_document_frequency: Tensor,
    taken: Tensor,
    *,
    num_subjects: int,
    heads: int,
    settings: SelectionSettings,
) -> Selection:
    """Choose slots and thresholds.

    Args:
        taught: routing at the subjects in the wordings that are taught.
        look_alikes: routing at the names that resemble them.
        inverse_document_frequency: fp32 [slots], from background text.
        taken: int64, slots that belong to other subjects already.
        num_subjects: number of subjects.
        heads: heads of the memory layer.
        settings: numbers and thresholds.

    Returns:
        The selection; a subject may end up without slots.
    """
    num_slots = len(inverse_document_frequency)
    pairs, use = _mean_use(taught, num_slots, num_subjects)
    other_pairs, other_use = _mean_use(look_alikes, num_slots, num_subjects)
    at = torch.searchsorted(other_pairs, pairs).clamp(max=max(0, len(other_pairs) - 1))
    if len(other_pairs):
        use = use - settings.contrast * other_use[at] * (other_pairs[at] == pairs)
    owner, slot = pairs // num_slots, pairs % num_slots
    score = use.clamp(min=0) * inverse_document_frequency[slot].clamp(min=settings.min_idf)
    free = (score > 0) & ~torch.isin(slot, taken)
    owner, slot, score = _best_of(slot[free], owner[free], score[free])
    slots, owners = _top_slots(owner, slot, score, settings.slots_per_subject)
    selection = Selection(slots, owners, torch.zeros(num_subjects))
    thresholds = gate_thresholds(selection, taught, look_alikes, heads, settings)
    return Selection(slots, owners, thresholds)


def _mean_use(routing: SubjectRouting, num_slots: int, num_subjects: int) -> tuple[Tensor, Tensor]:
    """Each (subject, slot) that occurs, as subject * slots + slot ascending, and the slot's mean weight there."""
    if len(routing.owners) == 0:
        return torch.empty(0, dtype=torch.int64), torch.empty(0)
    rows = torch.bincount(routing.owners, minlength=num_subjects)
    keys = (routing.owners[:, None] * num_slots + routing.slots).flatten()
    share = (routing.weights / rows[routing.owners][:, None]).flatten()
    pairs, position = keys.unique(return_inverse=True)
    return pairs, torch.zeros(len(pairs)).index_add_(0, position, share)


def _best_of(slot: Tensor, owner: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keep, for each slot, the subject that scores highest (ties: the first)."""
    order = score.argsort(descending=True, stable=True)
    order = order[slot[order].argsort(stable=True)]
    slot, owner, score = slot[order], owner[order], score[order]
    first = torch.ones(len(slot), dtype=torch.bool)
    first[1:] = slot[1:] != slot[:-1]
    return owner[first], slot[first], score[first]


def _top_slots(owner: Tensor, slot: Tensor, score: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best slots of each subject, as slots ascending and their owners."""
    order = score.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]
    owner, slot = owner[order], slot[order]
    starts = torch.searchsorted(owner, owner)
    kept = torch.arange(len(owner)) - starts < count
    slots, position = slot[kept].sort()
    return slots, owner[kept][position]


def owner_mass(selection: Selection, routing: SubjectRouting, heads: int) -> Tensor:
    """Routing mass of each row's own subject, fp32 [rows], 0 to 1."""
    owners = lookup_owners(selection.owners, written_rows(selection.slots, routing.slots))
    return (routing.weights * (owners == routing.owners[:, None])).sum(-1) / heads


def gate_thresholds(
    selection: Selection,
    taught: SubjectRouting,
    look_alikes: SubjectRouting,
    heads: int,
    settings: SelectionSettings,
) -> Tensor:
    """Threshold of each subject's gate, fp32 [subjects]."""
    own, other = (owner_mass(selection, routing, heads) for routing in (taught, look_alikes))
    thresholds = []
    for subject in range(len(selection.thresholds)):
        reached = own[taught.owners == subject].quantile(settings.low_quantile)
        resembling = other[look_alikes.owners == subject]
        high = resembling.max() if len(resembling) else torch.zeros(())
        between = high + settings.threshold_position * (reached - high).clamp(min=0)
        thresholds.append(between.clamp(settings.min_threshold, 0.9))
    return torch.stack(thresholds)
