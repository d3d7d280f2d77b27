"""Numbers that are precise enough."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the widest dtype of theirs, which is not half precision."""
    dtypes = (x.dtype for x in tensors)
    dtype = reduce(torch.promote_types, dtypes, torch.float32)
    return tuple(x.to(dtype) for x in tensors)
