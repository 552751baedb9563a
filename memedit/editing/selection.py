"""Slot selection: which slots are written for which subject, and when the subject's gate opens.

A subject gets the slots that its own wordings use at its last token, minus those that look-alike names and
the most similar tokens of background text use, ranked against how often background text uses them (TF-IDF
with contrast). A slot has one owner. The gate's threshold lies between the mass that all those others reach
and the mass that the subject itself reaches; what mass cannot tell apart, a discriminant may.

Source: TF-IDF ranking of slots, Lin et al. 2025 (arXiv 2510.15103), section 3; contrast, exclusive ownership
and thresholds are ours.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

import torch
from memedit_kernels.slot_bag import lookup_owners
from memedit_kernels.slot_rows import slot_rows
from torch import Tensor

from memedit.editing.by_owner import quantiles_by_owner
from memedit.editing.delta import Delta
from memedit.editing.discriminants import DiscriminantSettings, subject_discriminants
from memedit.editing.row_states import SubjectRouting
from memedit.modeling import Overlay
from memedit.modeling.background import BackgroundStatistics

Ranking = Literal["contrast", "tfidf", "tf", "kl", "all"]


@dataclass(frozen=True)
class SelectionSettings:
    """How slots are chosen.

    Attributes:
        ranking: "contrast" chooses for each subject, with owners and gates, as this module does; the others
            choose for the whole edit, without (slot_ranking.py).
        slots_per_subject: at most this many, for each subject.
        contrast: how much the use of a slot by others counts against it.
        hard_tokens: background tokens nearest to a subject whose use counts against its slots.
        threshold_position: where the threshold lies between the others (0) and the subject (1).
        min_threshold: least routing mass that opens a gate.
        given_share: the threshold is at most this share of the least mass at a wording that the user gave.
        low_quantile: quantile of the subject's own masses that stands for "what it reaches".
        discriminant: how the boundary to look-alikes is drawn; None = the gate alone decides.
        min_idf: floor of the inverse document frequency, so that a well-known subject still finds slots.
    """

    ranking: Ranking = "contrast"
    slots_per_subject: int = 128
    contrast: float = 1.0
    hard_tokens: int = 32
    threshold_position: float = 0.4
    min_threshold: float = 0.15
    given_share: float = 0.95
    low_quantile: float = 0.1
    min_idf: float = 0.05
    discriminant: DiscriminantSettings | None = field(default_factory=DiscriminantSettings)


@dataclass(frozen=True)
class Selection:
    """The slots that an edit may write.

    Attributes:
        slots: int64 [n], ascending.
        owners: int64 [n], index of the subject, or UNGATED.
        thresholds: fp32 [subjects].
        discriminants: fp32 [subjects, query_dim + 1], or None.
    """

    slots: Tensor
    owners: Tensor
    thresholds: Tensor
    discriminants: Tensor | None = None

    def blank_overlay(self, value_dim: int, names: Sequence[str] = ()) -> Overlay:
        """The overlay of an empty store that wrote zeros to these slots.

        Args:
            value_dim: width of a row.
            names: of the subjects, or none.
        """
        delta = Delta.blank(len(self.slots), value_dim)
        return Overlay(
            self.slots,
            delta.values,
            self.owners,
            self.thresholds,
            tuple(names),
            delta.rows,
            self.discriminants,
        )

    def num_slots(self) -> Tensor:
        """Slots that each subject owns, int64 [subjects]."""
        return torch.bincount(self.owners[self.owners >= 0], minlength=len(self.thresholds))


class SlotSelector:
    """Chooses slots and thresholds for the subjects of one edit.

    Args:
        taught: routing at the subjects in the wordings that are taught.
        look_alikes: routing at the names that resemble them.
        background: slot document frequencies and a sample of routing, from background text.
        subject_tails: for each subject the token sequences that end a mention of it.
        given: bool [rows], the wordings of `taught` that the user wrote: there the gate has to open.
        heads: heads of the memory layer.
        settings: numbers and limits.
    """

    def __init__(
        self,
        taught: SubjectRouting,
        look_alikes: SubjectRouting,
        background: BackgroundStatistics,
        subject_tails: Sequence[Set[tuple[int, ...]]],
        *,
        given: Tensor,
        heads: int,
        settings: SelectionSettings,
    ) -> None:
        self.given = given
        self.taught, self.look_alikes, self.heads, self.settings = taught, look_alikes, heads, settings
        self.idf = background.inverse_document_frequency()
        self.num_slots, self.num_subjects = len(self.idf), len(subject_tails)
        self.text_slots = background.sample_slots.long()
        self.text_weights = background.sample_weights.float() / 255
        self.mentions = _mentions(background.sample_tokens, subject_tails)

    def select(self, taken: Tensor, written: tuple[Tensor, Tensor] | None = None) -> Selection:
        """Choose slots, twice: the background tokens that the first choice would let in count in the second.

        Args:
            taken: int64, slots that belong to other subjects already.
            written: int64 slots that belong to these subjects already, ascending, and their subjects. A gate
                counts all slots of its subject, so the thresholds do too.

        Returns:
            The selection; a subject may end up without slots.
        """
        first = self._ranked(taken, [self.look_alikes])
        selection = self._ranked(taken, [self.look_alikes, self._hard_tokens(first)])
        owned = selection if written is None else _with_written(selection, *written)
        return Selection(selection.slots, selection.owners, self._thresholds(owned), self._discriminants())

    def _discriminants(self) -> Tensor | None:
        if self.settings.discriminant is None:
            return None
        return subject_discriminants(
            self.taught,
            self.look_alikes,
            given=self.given,
            num_subjects=self.num_subjects,
            settings=self.settings.discriminant,
        )

    def _ranked(self, taken: Tensor, others: Sequence[SubjectRouting]) -> Selection:
        pairs, use = self._mean_use(self.taught)
        for other in others:
            other_pairs, other_use = self._mean_use(other)
            if len(other_pairs):
                at = torch.searchsorted(other_pairs, pairs).clamp(max=len(other_pairs) - 1)
                use = use - self.settings.contrast * other_use[at] * (other_pairs[at] == pairs)
        owner, slot = pairs // self.num_slots, pairs % self.num_slots
        score = use.clamp(min=0) * self.idf[slot].clamp(min=self.settings.min_idf)
        free = (score > 0) & ~torch.isin(slot, taken)
        owner, slot, score = _best_of(slot[free], owner[free], score[free])
        slots, owners = _top_slots(owner, slot, score, self.settings.slots_per_subject)
        return Selection(slots, owners, torch.zeros(self.num_subjects))

    def _mean_use(self, routing: SubjectRouting) -> tuple[Tensor, Tensor]:
        """Each (subject, slot) that occurs, as subject * slots + slot ascending, and its mean weight."""
        if len(routing.owners) == 0:
            return torch.empty(0, dtype=torch.int64), torch.empty(0)
        rows = torch.bincount(routing.owners, minlength=self.num_subjects)
        keys = (routing.owners[:, None] * self.num_slots + routing.slots).flatten()
        share = (routing.weights / rows[routing.owners][:, None]).flatten()
        pairs, position = keys.unique(return_inverse=True)
        return pairs, torch.zeros(len(pairs)).index_add_(0, position, share)

    def _hard_tokens(self, selection: Selection) -> SubjectRouting:
        """For each subject the background tokens, mentions of it aside, that reach the most of its slots."""
        subjects, tokens, mass = self._text_mass(selection)
        order = mass.argsort(descending=True, stable=True)
        order = order[subjects[order].argsort(stable=True)]
        subjects, tokens = subjects[order], tokens[order]
        kept = (
            torch.arange(len(subjects)) - torch.searchsorted(subjects, subjects) < self.settings.hard_tokens
        )
        slots, weights = self.text_slots[tokens[kept]], self.text_weights[tokens[kept]]
        return SubjectRouting(subjects[kept], slots, weights, weights[:, :0])

    def _text_mass(self, selection: Selection) -> tuple[Tensor, Tensor, Tensor]:
        """Subject, background token and mass wherever a token, no mention of the subject, hits its slots."""
        owners = lookup_owners(selection.owners, slot_rows(self.text_slots, selection.slots))
        token, column = (owners >= 0).nonzero(as_tuple=True)
        keys = owners[token, column] * len(self.text_slots) + token
        pairs, position = keys.unique(return_inverse=True)
        mass = torch.zeros(len(pairs)).index_add_(0, position, self.text_weights[token, column]) / self.heads
        other = ~torch.isin(pairs, self.mentions)
        divisor = max(1, len(self.text_slots))
        return pairs[other] // divisor, pairs[other] % divisor, mass[other]

    def _thresholds(self, selection: Selection) -> Tensor:
        """Threshold of each subject's gate, fp32 [subjects]."""
        own, resembling = (owner_mass(selection, r, self.heads) for r in (self.taught, self.look_alikes))
        subjects, _, elsewhere = self._text_mass(selection)
        high = torch.zeros(self.num_subjects)
        high.scatter_reduce_(0, self.look_alikes.owners, resembling, "amax")
        high.scatter_reduce_(0, subjects, elsewhere, "amax")
        reached = quantiles_by_owner(own, self.taught.owners, self.num_subjects, self.settings.low_quantile)
        between = high + self.settings.threshold_position * (reached - high).clamp(min=0)
        least = torch.ones(self.num_subjects)
        least.scatter_reduce_(0, self.taught.owners[self.given], own[self.given], "amin")
        return torch.minimum(between, self.settings.given_share * least).clamp(
            self.settings.min_threshold, 0.95
        )


def _mentions(sample_tokens: Tensor, subject_tails: Sequence[Set[tuple[int, ...]]]) -> Tensor:
    """Background tokens that end a mention of a subject, as subject * tokens + token, ascending."""
    found = [torch.empty(0, dtype=torch.int64)]
    for subject, tails in enumerate(subject_tails):
        for tail in tails:
            same = (sample_tokens[:, -len(tail) :] == torch.tensor(tail)).all(-1)
            found.append(subject * len(sample_tokens) + same.nonzero().flatten())
    mentions: Tensor = torch.cat(found).unique()
    return mentions


def _with_written(selection: Selection, slots: Tensor, owners: Tensor) -> Selection:
    """A selection and the slots that its subjects had before."""
    further = ~torch.isin(slots, selection.slots)
    slots = torch.cat([selection.slots, slots[further]])
    order = slots.argsort()
    owners = torch.cat([selection.owners, owners[further]])
    return Selection(slots[order], owners[order], selection.thresholds)


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
    kept = torch.arange(len(owner)) - torch.searchsorted(owner, owner) < count
    slots, position = slot[kept].sort()
    return slots, owner[kept][position]


def owner_mass(selection: Selection, routing: SubjectRouting, heads: int) -> Tensor:
    """Routing mass of each row's own subject, fp32 [rows], 0 to 1."""
    owners = lookup_owners(selection.owners, slot_rows(routing.slots, selection.slots))
    return (routing.weights * (owners == routing.owners[:, None])).sum(-1) / heads
