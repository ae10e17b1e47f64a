"""Places of doses and the EC50, from embeddings to intervals, by simulation.

Cells of six doses and of controls are drawn, with effects of wells where a design has them. A compound that does
nothing should have an interval above 0 in at most 2.5 % of its lower doses; of one that works, 95 % of the intervals of
places and EC50 should hold the true ones. Prints a line per design, with how many compounds it rests on; ends 1 where a
rate is worse. Where wells have effects and there is one of them it is known to be. ``--quick`` draws a tenth.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.explore import doses

DOSES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
EC50 = 1.0
EFFECTS = (2.5, 5.0)


@dataclass(frozen=True)
class Design:
    """A compound beside controls of its plate.

    Parameters
    ----------
    features : int
    controls, control_wells : int
        Cells in all, and the wells that they are dealt into.
    wells, cells : int
        Of each dose, and of each well.
    effect : float
        Of an endless dose, in s.d. of cells, in one feature; half of it at `EC50`.
    sd_well : float
        In s.d. of cells, in every feature.
    """

    features: int
    controls: int
    control_wells: int
    wells: int = 3
    cells: int = 10
    effect: float = 0.0
    sd_well: float = 0.0


@dataclass(frozen=True)
class Found:
    """Counts over compounds, and the mean place of the lower doses less the true one where the highest is told."""

    n: int
    places: int
    above: int
    told: int
    held_places: int
    told_places: int
    curves: int
    held_curves: int
    ec50: float
    off: float


def table(design: Design) -> pd.DataFrame:
    """The cells of a design."""
    dealt = np.bincount(np.arange(design.controls) % design.control_wells)
    well_dose = np.concatenate([np.zeros(design.control_wells), np.repeat(DOSES, design.wells)])
    of = np.repeat(np.arange(len(well_dose)), [*dealt, *[design.cells] * (len(DOSES) * design.wells)])
    dose = well_dose[of]
    compound = np.where(dose > 0, "drug", "DMSO")
    return pd.DataFrame(
        {
            schema.CELL_ID: [f"cell-{i}" for i in range(len(of))],
            schema.PLATE: "P1",
            schema.BATCH: "B1",
            schema.WELL: [f"W{w:03d}" for w in of],
            schema.COMPOUND: compound,
            schema.CONCENTRATION: dose,
            schema.TREATMENT: [schema.treatment_name(c, d) for c, d in zip(compound, dose, strict=True)],
            schema.BLANK: False,
        }
    )


def drawn(design: Design, cells: pd.DataFrame, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Embeddings of those cells."""
    dose, of = cells[schema.CONCENTRATION].to_numpy(), pd.factorize(cells[schema.WELL])[0]
    z = rng.normal(size=(len(of), design.features)) + 1.0
    z += design.sd_well * rng.normal(size=(of.max() + 1, design.features))[of]
    z[:, 0] += design.effect * dose / (dose + EC50)
    return z.astype(np.float32)


def rates(design: Design, n: int, rng: np.random.Generator) -> Found:
    """What is found in n compounds; a place counts as held or not where the highest dose is told from the controls."""
    share = DOSES / (DOSES + EC50)
    true = (share / share[-1])[:-1] if design.effect else np.zeros(len(DOSES) - 1)
    above = told = held = curves = held_curves = 0
    ec50s, off = [], []
    cells = table(design)
    for _ in range(n):
        found = doses.dose_response(cells, drawn(design, cells, rng), "DMSO", "drug")
        lower = found.doses.iloc[:-1]
        above += int((lower["low"] > 0).sum())
        if not design.effect:
            off.append(lower["mean"].to_numpy())
        told += found.told
        if found.told:
            held += int(((lower["low"] <= true) & (true <= lower["high"])).sum())
            if design.effect:
                off.append(lower["mean"].to_numpy() - true)
        if found.curve is not None:
            curves += 1
            held_curves += found.curve.ec50_low <= EC50 <= found.curve.ec50_high
            ec50s.append(found.curve.ec50)
    k = len(true)
    ec50, mean_off = (float(np.median(v)) if v else np.nan for v in (ec50s, off))
    return Found(n, n * k, above, told, held, told * k, curves, held_curves, ec50, mean_off)


CONTROLS = ((5, 1), (5, 5), (20, 1), (20, 2), (20, 4), (60, 1), (60, 3), (60, 6), (300, 1), (300, 6))
PLAIN = [
    Design(features, *controls, wells, 20 if wells == 1 else 10)
    for features in (32, 256)
    for controls in CONTROLS
    for wells in (1, 2, 3)
]
STRONG_WELLS = [
    Design(32, 60, control_wells, wells, 20 if wells == 1 else 10, sd_well=0.3)
    for control_wells, wells in ((6, 3), (3, 2), (6, 1), (1, 3), (1, 1))
]


def percent(count: int, n: int) -> str:
    return f"{100 * count / n:.1f}" if n else "no"


def worse(count: int, of: int, n: int, allowed: float) -> bool:
    """Whether a rate lies above what is allowed by more than chance; n of them are independent."""
    return bool(of and count / of > allowed + 2.6 * np.sqrt(allowed * (1 - allowed) / n))


def main() -> None:
    n = 20 if "--quick" in sys.argv else 200
    missed = []
    for k, design in enumerate([*PLAIN, *STRONG_WELLS]):
        print(f"{design}, {n} compounds each")
        nothing = rates(design, n, np.random.default_rng([0, k, 0]))
        print(f"  does nothing: places {nothing.off:+.3f}, above 0 in", end=" ")
        print(f"{percent(nothing.above, nothing.places)} %; told {nothing.told}, curves {nothing.curves}", flush=True)
        bad = worse(nothing.above, nothing.places, n, 0.025) or nothing.curves > 0.02 * n
        for effect in EFFECTS:
            works = rates(replace(design, effect=effect), n, np.random.default_rng([0, k, int(10 * effect)]))
            print(f"  effect {effect:g}: told {works.told}, places {works.off:+.3f} off, held in", end=" ")
            print(f"{percent(works.held_places, works.told_places)} %; curves {works.curves}, held in", end=" ")
            print(f"{percent(works.held_curves, works.curves)} %, median EC50 {works.ec50:.2f}", flush=True)
            bad |= worse(works.told_places - works.held_places, works.told_places, works.told, 0.05)
            bad |= worse(works.curves - works.held_curves, works.curves, works.curves, 0.05)
        one_well = design.sd_well > 0 and 1 in (design.wells, design.control_wells)
        if bad and not one_well:
            missed.append(str(design))
    if missed:
        print("missed:", "; ".join(missed))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
