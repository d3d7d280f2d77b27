"""Settings of the whole process, changed by one thread at a time."""

from __future__ import annotations

import os
import threading

#: Held while standard output, warnings or Pillow's limit are others.
ALONE = threading.RLock()
# A process that is forked meanwhile would wait for a thread it has not.
os.register_at_fork(
    before=ALONE.acquire,
    after_in_parent=ALONE.release,
    after_in_child=ALONE.release,
)
