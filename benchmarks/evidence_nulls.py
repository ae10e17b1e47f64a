"""False alarms of a path's verdict and of the share of responding cells, by simulation.

Screens are made of batches, plates, wells and cells, each with an effect of its own, and one treatment that does
nothing; a path to it should be said to differ more than control paths do in at most 5 % of screens. Prints a line per
design, with how many screens it rests on; ends 1 where a rate lies above what is stated. ``--quick`` runs a tenth.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from cytovae import schema
from cytovae.errors import SelectionError
from cytovae.explore import responders, study
from cytovae.explore.study import Material, Request
from cytovae.explore.targets import Target

D = 24
"""Features."""


class Unseen:
    """A generator whose pictures nobody looks at."""

    name, patch_size_px, channels, latent_size = "unseen", 1, ("DNA",), D

    def encode(self, images: npt.NDArray) -> npt.NDArray:
        return np.asarray(images, np.float32)

    def decode(self, z: npt.NDArray) -> npt.NDArray:
        return np.asarray(z, np.float32)


@dataclass(frozen=True)
class Design:
    """A screen: on each of the plates, control wells of some cells each; a treatment in some wells of some plates.

    Parameters
    ----------
    plates, wells, cells : int
        Plates, control wells a plate, cells a control well.
    treated_plates, treated_wells, treated_cells : int
        Of the treatment: plates, wells a plate, cells a well.
    sd_plate, sd_well : float
        Of their effects, in s.d. of cells; the effect is one direction in three features at a time.
    singles : int
        Control wells beside those, each on the first plates and of one cell.
    """

    plates: int = 10
    wells: int = 6
    cells: int = 10
    treated_plates: int = 1
    treated_wells: int = 1
    treated_cells: int = 10
    sd_plate: float = 0.3
    sd_well: float = 0.3
    singles: int = 0


def made(design: Design, rng: np.random.Generator) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    """A screen of a design, whose treatment does nothing: its cells, and their embeddings."""
    wells = [(p, f"B{w:02d}", "DMSO", design.cells) for p in range(design.plates) for w in range(design.wells)]
    wells += [(k % design.plates, f"S{k:02d}", "DMSO", 1) for k in range(design.singles)]
    wells += [
        (p, f"C{w:02d}", "drug", design.treated_cells)
        for p in range(design.treated_plates)
        for w in range(design.treated_wells)
    ]
    plate, name, compound, n = (np.repeat([well[k] for well in wells], [well[3] for well in wells]) for k in range(4))
    of_well = np.repeat(np.arange(len(wells)), [well[3] for well in wells])
    z = rng.normal(size=(len(n), D)) * rng.chisquare(8, (len(n), 1)) ** 0.5 / 8**0.5  # some cells are odd in all ways
    z += design.sd_plate * rng.normal(size=(design.plates, D))[plate]
    z += design.sd_well * rng.normal(size=(len(wells), D))[of_well]
    dose = np.where(compound == "DMSO", 0.0, 1.0)
    cells = pd.DataFrame(
        {
            schema.CELL_ID: [f"cell-{i}" for i in range(len(n))],
            schema.PLATE: [f"Week{p // 5}_{p}" for p in plate],
            schema.BATCH: [f"Week{p // 5}" for p in plate],
            schema.WELL: name,
            schema.COMPOUND: compound,
            schema.CONCENTRATION: dose,
            schema.TREATMENT: np.where(compound == "DMSO", "DMSO@0", "drug@1"),
            schema.MOA: "",
            schema.BLANK: False,
        }
    )
    return cells, z.astype(np.float32)


def path_p(cells: pd.DataFrame, z: npt.NDArray[np.float32], target: str, seed: int) -> tuple[float | None, float]:
    """The p that a path to the treatment is given, None where none is; and its percentile among null paths."""
    material = Material(cells, z, Unseen(), "DMSO")
    request = Request(treatment="drug@1", target=target, seed=seed)
    start, end = study.ends(material, request)
    null = study.null_paths(material, request)
    length = float(np.linalg.norm(z[start].astype(np.float64) - z[end]))
    return null.p(length), 100.0 * float(np.mean(null.lengths <= length))


def false_alarms(design: Design, target: str, n: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Of n screens: alarms; those where a p was given; those asked at all; alarms if the percentile alone decided."""
    alarms, given, asked, by_percentile = 0, 0, 0, 0
    for seed in range(n):
        cells, z = made(design, rng)
        try:
            p, percentile = path_p(cells, z, target, seed)
        except SelectionError:  # no cell responds, so no path is drawn
            continue
        asked += 1
        given += p is not None
        alarms += p is not None and p <= study.MOST_P
        by_percentile += percentile >= 95.0
    return alarms, given, asked, by_percentile


DESIGNS = {
    "one well": Design(),
    "one well, strong wells": Design(sd_well=0.8, sd_plate=0.8),
    "three plates": Design(treated_plates=3, treated_cells=4),
    "three plates, strong wells": Design(treated_plates=3, treated_cells=4, sd_well=0.8, sd_plate=0.8),
    "two wells of one plate": Design(treated_wells=2, sd_well=0.6),
    "20 control wells": Design(plates=4, wells=5, sd_well=0.8),
    "few large wells, many of one cell": Design(plates=10, wells=1, cells=60, singles=30, treated_cells=8, sd_well=0.6),
}


@dataclass(frozen=True)
class Planted:
    """A treatment of which a share of the cells respond.

    Parameters
    ----------
    share : float
        Of the treated cells.
    wells, cells : int
        Treated wells, cells of each.
    control_wells : int
        Of as many cells.
    size : float
        How far a responding cell moves, in s.d. of cells.
    sd_well : float
    """

    share: float
    wells: int = 4
    cells: int = 10
    control_wells: int = 6
    size: float = 5.0
    sd_well: float = 0.0


def responder_coverage(planted: Planted, n: int, rng: np.random.Generator) -> tuple[float, float]:
    """How often the interval holds the true share, and is above 0; over n treatments.

    The truth is the excess of treated over control cells beyond the controls' true 95th percentile on the very lines
    that the cells were placed on, in endless populations of wells.
    """
    held = above = 0
    sd = (1 + planted.sd_well**2) ** 0.5
    for _ in range(n):
        groups, labels = [], []
        for wells in (planted.wells, planted.control_wells):
            of = np.repeat(np.arange(wells), planted.cells)
            groups.append(rng.normal(size=(len(of), D)) + planted.sd_well * rng.normal(size=(wells, D))[of])
            labels.append(of if wells > 1 else np.arange(len(of)))
        (treated, control), (of_treated, of_control) = groups, labels
        treated[rng.random(len(treated)) < planted.share, 0] += planted.size
        at, beside = responders.places(treated, control, of_treated, of_control)
        threshold = np.quantile(beside, responders.BEYOND, method="higher")
        _, low, high = responders.excess(at > threshold, beside > threshold, of_treated, of_control)
        ways = np.array([treated[of_treated != u].mean(axis=0) for u in np.unique(of_treated)]) - control.mean(axis=0)
        moved = planted.size * ways[:, 0] / np.linalg.norm(ways, axis=1)
        seen = norm.sf(norm.isf(1 - responders.BEYOND) - moved / sd)
        truth = planted.share * float(np.mean((seen - 1 + responders.BEYOND) / responders.BEYOND))
        held += bool(low <= truth <= high)
        above += low > 0
    return held / n, above / n


PLANTED = [
    *(Planted(share, sd_well=sd) for share in (0.0, 0.1, 0.3, 0.6, 0.95) for sd in (0.0, 0.3)),
    *(Planted(share, wells, cells) for share in (0.0, 0.3, 0.6) for wells, cells in ((1, 8), (1, 30), (2, 5), (3, 4))),
    *(Planted(share, 3, 20, 3, sd_well=0.3) for share in (0.0, 0.3, 0.6)),
    Planted(0.5, 3, 20, size=2.0),
]


ALONE = [Planted(share, 1, 30, sd_well=sd) for share, sd in ((0.0, 0.1), (0.0, 0.2), (0.3, 0.3), (0.0, 0.3))]
"""Of one well that differs, which cannot be told from its treatment: how often that misleads."""


def main() -> None:
    n = 40 if "--quick" in sys.argv else 400
    rng = np.random.default_rng(0)
    missed = []
    print(f"a path to a treatment that does nothing, {n} screens each: at most 5 % may be said to differ")
    for name, design in DESIGNS.items():
        for target in Target:
            alarms, given, asked, old = false_alarms(design, target, n, rng)
            rate = alarms / max(given, 1)
            print(
                f"  {name}, target {target}: {100 * rate:.1f} % of {given} (no p for {asked - given} more; "
                f"the percentile alone, of all: {100 * old / max(asked, 1):.1f} %)",
                flush=True,
            )
            if rate > 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / max(given, 1)):
                missed.append(f"{name}, {target}")
    print(f"share of responding cells, {10 * n} treatments each: 93 % or more of the intervals hold the truth")
    for planted in PLANTED:
        held, above = responder_coverage(planted, 10 * n, rng)
        print(f"  {planted}: {100 * held:.1f} %, above 0 in {100 * above:.1f} %", flush=True)
        if held < 0.93 - 2.6 * np.sqrt(0.95 * 0.05 / (10 * n)):
            missed.append(str(planted))
    print("one well that differs: nothing is promised")
    for planted in ALONE:
        held, above = responder_coverage(planted, 10 * n, rng)
        print(f"  {planted}: {100 * held:.1f} %, above 0 in {100 * above:.1f} %", flush=True)
    if missed:
        print("missed:", "; ".join(missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
