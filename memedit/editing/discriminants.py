"""A linear discriminant for each subject: which queries are its own, and which are those of look-alikes.

What: `subject_discriminants`.
Why: the ownership gate counts how much of a token's routing falls on a subject's slots. Two names that share
most of their slots look the same to it, while the query that found the slots still tells them apart.
How: Fisher's direction from the mean query of a subject's look-alikes to that of its own wordings, whitened
by how queries of one subject differ from wording to wording (all subjects of the edit together, with a ridge,
so that a single fact gets one too). The offset lies between the nearest look-alike and the subject's own.

Source: Fisher 1936, The use of multiple measurements in taxonomic problems.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memedit.editing.by_owner import means_by_owner, quantiles_by_owner
from memedit.editing.row_states import SubjectRouting


@dataclass(frozen=True)
class DiscriminantSettings:
    """Where a subject ends and its look-alikes begin.

    Attributes:
        position: where the boundary lies between the nearest look-alike (0) and the subject (1).
        ridge: added to the covariance within subjects, in units of its mean diagonal.
        low_quantile: quantile of the subject's own scores that stands for "what it reaches".
        given_share: the boundary is at most this share of the way from the middle of the look-alikes to the
            least score at a wording that the user gave.
    """

    position: float = 0.7
    ridge: float = 0.3
    low_quantile: float = 0.1
    given_share: float = 0.95


@torch.no_grad()
def subject_discriminants(
    taught: SubjectRouting,
    look_alikes: SubjectRouting,
    *,
    given: Tensor,
    num_subjects: int,
    settings: DiscriminantSettings,
) -> Tensor:
    """Fit a discriminant for each subject.

    Args:
        taught: routing at the subjects in the wordings that are taught.
        look_alikes: routing at the names that resemble them.
        given: bool [rows], the wordings of `taught` that the user wrote: all lie on the subject's side.
        num_subjects: how many subjects there are.
        settings: numbers.

    Returns:
        fp32 [num_subjects, query_dim + 1], see Overlay.discriminants; it holds fp16 numbers, as a patch file
        does. A row of zeros, which leaves everything to the gate, where a subject has no look-alikes.
    """
    own, others = taught.queries.float(), look_alikes.queries.float()
    own_mean = means_by_owner(own, taught.owners, num_subjects)
    other_mean = means_by_owner(others, look_alikes.owners, num_subjects)
    directions = torch.linalg.solve(
        _within(own - own_mean[taught.owners], settings.ridge), (own_mean - other_mean).T
    ).T
    directions = functional.normalize(directions, dim=-1).half().float()
    middle = (directions * other_mean).sum(-1)
    own_scores = (own * directions[taught.owners]).sum(-1) - middle[taught.owners]
    other_scores = (others * directions[look_alikes.owners]).sum(-1) - middle[look_alikes.owners]
    nearest = _extreme(other_scores, look_alikes.owners, num_subjects, "amax")
    reached = quantiles_by_owner(own_scores, taught.owners, num_subjects, settings.low_quantile)
    least = _extreme(own_scores[given], taught.owners[given], num_subjects, "amin").nan_to_num(nan=torch.inf)
    boundary = torch.minimum(
        nearest + settings.position * (reached - nearest), least - (1 - settings.given_share) * least.abs()
    )
    found = torch.cat([directions, -(boundary + middle)[:, None]], 1).half().float()
    return torch.where(boundary.isfinite()[:, None], found, 0.0)


def _within(deviations: Tensor, ridge: float) -> Tensor:
    """Covariance of one subject's queries around their mean, and the ridge: fp32 [query_dim, query_dim]."""
    covariance = deviations.T @ deviations / max(1, len(deviations))
    # Queries that do not differ at all leave the ridge alone.
    unit = covariance.diagonal().mean().clamp(min=1e-6)
    identity = torch.eye(len(covariance), device=covariance.device)
    regular: Tensor = covariance + ridge * unit * identity
    return regular


def _extreme(scores: Tensor, owners: Tensor, num_owners: int, which: str) -> Tensor:
    """The largest ("amax") or least ("amin") score of each owner, fp32 [num_owners]; NaN without any."""
    start = torch.full((num_owners,), float("nan"))
    return start.scatter_reduce_(0, owners, scores, which, include_self=False)
