"""Python's garbage collector, which Streamlit runs after every run of a page, is spared what lasts.

Modules, models and tables are a million objects: to look at all of them takes a fifth of a second, in which no session
gets on.
"""

from __future__ import annotations

import gc
import sys
import threading

_LOCK = threading.Lock()
_known = 0


def settle() -> None:
    """Take what there is by now out of the collector's rounds; done anew where modules have been loaded since."""
    global _known
    with _LOCK:
        if len(sys.modules) == _known:
            return
        _known = len(sys.modules)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
