"""Numbers of rows, taken together by the subject that owns the rows."""

import torch
from torch import Tensor


def means_by_owner(values: Tensor, owners: Tensor, num_owners: int) -> Tensor:
    """Mean of each owner's values, fp32 [num_owners, ...]; 0 for one without any.

    Args:
        values: [rows, ...].
        owners: int64 [rows].
        num_owners: how many owners there are.
    """
    sums = torch.zeros(num_owners, *values.shape[1:]).index_add_(0, owners, values.float())
    counts = torch.bincount(owners, minlength=num_owners).clamp(min=1)
    return sums / counts.view(-1, *[1] * (values.dim() - 1))


def quantiles_by_owner(values: Tensor, owners: Tensor, num_owners: int, quantile: float) -> Tensor:
    """A quantile of each owner's values, fp32 [num_owners]; NaN for one without any.

    Args:
        values: [rows].
        owners: int64 [rows].
        num_owners: how many owners there are.
        quantile: 0 to 1.
    """
    parts = values[owners.argsort(stable=True)].split(torch.bincount(owners, minlength=num_owners).tolist())
    return torch.tensor([float(part.quantile(quantile)) if len(part) else float("nan") for part in parts])
