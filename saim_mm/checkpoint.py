"""MMEngine's checkpoints load without executing their pickle."""

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint


def allow_history_buffers() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine saves.

    Beside the weights a checkpoint holds the logged numbers, as MMEngine's
    ``HistoryBuffer``. ``weights_only=True``, the default since PyTorch 2.6,
    refuses that class, so MMEngine <= 0.10.7 could not resume.
    """
    if hasattr(checkpoint, 'get_torch_safe_globals'):
        return  # onedl-mmengine allows the same classes itself
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return  # PyTorch < 2.4, where weights_only is not the default
    scalar_dtypes = (np.float64, np.float32, np.int64, np.int32, np.uint32)
    # How numpy pickles an array and a scalar; private names that moved in 2.0.
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [HistoryBuffer, getattr, np.ndarray, np.dtype, reconstruct, scalar]
        + [type(np.dtype(t)) for t in scalar_dtypes]
    )
