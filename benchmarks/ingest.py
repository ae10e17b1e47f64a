"""How fast fields become cells and patches come from the store; ends 1 where a stated limit is missed.

Limit: 15 fields of 1280 x 1024 per second of one core's time, nuclei alone and with reading, cutting and writing. The
fields are the phantom's. Batches are 104 random patches of 20,000; on a cold disk they depend on the disk, so there the
two ways to read are only compared.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tifffile

from cytovae.config import ScreenRecord
from cytovae.ingest import assembly, layouts, nuclei
from cytovae.patches import Parts, PatchStore, write_part
from cytovae.phantom import screen as phantom

LIMIT = 15.0
missed: list[str] = []


def fields_per_second(label: str, count: int, work: Callable[[], object]) -> None:
    """Print fields per second of processor time and on the clock."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    print(f"{label}: {count / cpu:.1f} fields/s of processor time, {count / clock:.1f} on the clock (limit {LIMIT})")
    if count / cpu < LIMIT:
        missed.append(label)


def fields(folder: Path) -> None:
    """From raw fields to a screen."""
    drawn = phantom.PhantomOptions(treatments=12, wells=1, controls=1, cells=150, width_px=1280, height_px=1024)
    phantom.write(folder / "raw", drawn)
    layout = layouts.bbbc021.read(folder / "raw")
    dna = [tifffile.imread(folder / "raw" / name) for name in layout.fields["path_DNA"]]
    nuclei.find_nuclei(dna[0])
    fields_per_second("nuclei", len(dna), lambda: [nuclei.find_nuclei(image) for image in dna])
    record = ScreenRecord("benchmark", layout.channels)
    fields_per_second(
        "whole ingest",
        len(dna),
        lambda: assembly.ingest_fields(layout, folder / "raw", folder / "a.screen", record),
    )


def batches(folder: Path) -> None:
    """From the patch store, warm and cold."""
    rng = np.random.default_rng(0)
    for number in range(5):
        write_part(folder, number, rng.integers(0, 4096, (4000, 68, 68, 3), dtype=np.uint16))
    store = PatchStore(folder)
    for _ in store.blocks(1000):
        pass
    choice = Parts._on_disk
    for state, count in (("warm", 300), ("cold", 30)):
        for label, by_threads in (("memory map", False), ("16 threads", True), ("as chosen", None)):
            if state == "cold":
                del store
                os.sync()
                for path in folder.glob("*.npy"):
                    with path.open("rb") as handle:
                        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                store = PatchStore(folder)
            if by_threads is not None:
                Parts._on_disk = lambda *_, always=by_threads: always  # type: ignore[method-assign]
            start = time.perf_counter()
            for _ in range(count):
                store.read(rng.integers(0, len(store), 104))
            print(f"{state} store, {label}: {count / (time.perf_counter() - start):.0f} batches/s")
            Parts._on_disk = choice  # type: ignore[method-assign]


if __name__ == "__main__":
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as made:
        fields(Path(made))
        (Path(made) / "patches").mkdir()
        batches(Path(made) / "patches")
    sys.exit(1 if missed else 0)
