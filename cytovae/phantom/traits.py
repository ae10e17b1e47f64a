"""What a phantom cell is, in numbers: untreated, under each mechanism, and how the cells of a well differ.

A cell is a handful of traits (`CONTROL`); a mechanism says what they are at full strength (`MECHANISMS`), and a cell
under treatment stands between the two. Lengths are in px, angles in radians from x towards y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Traits = dict[str, npt.NDArray[Any]]
"""Name -> (n,): one value per cell."""

CONTROL: dict[str, float] = {
    "nucleus_area": 1130.0,  # px^2
    "nucleus_elongation": 1.28,
    "nucleus_intensity": 1.0,
    "chromatin": 0.155,  # contrast of the texture
    "grain": 0.5,  # share of the fine texture
    "nucleoli": 2.6,  # mean number
    "nucleolus_radius": 2.6,  # px
    "cell_radius": 41.0,  # px
    "elongation": 1.45,
    "spikes": 0.42,  # length of the corners, in cell radii
    "thickness": 1.0,
    "filaments": 190.0,  # microtubules of a cell
    "filament_length": 42.0,  # px
    "wobble": 0.10,  # turning of a microtubule, rad per px
    "bundling": 0.0,  # 0 free microtubules, 1 all in bundles
    "tubulin": 1.0,
    "tubulin_pool": 0.5,  # share that is not in filaments
    "actin": 1.0,
    "cortex": 0.55,
    "stress_fibres": 55.0,
    "ruffles": 0.35,
    "junctions": 0.35,
    "puncta": 0.6,  # mean number
    "aggresome": 0.0,  # radius in px of a perinuclear inclusion
    "density": 1.0,  # cells against the control's
    "clustering": 0.45,
    "nuclei": 2.0,  # mean number in a multinucleate cell
    "p_mitotic": 0.035,
    "p_monoaster": 0.0,
    "p_fragmented": 0.004,
    "p_multinucleate": 0.015,
    "p_lobed": 0.015,
    "p_apoptotic": 0.006,
}
"""Traits of an untreated cell; probabilities start with ``p_``."""

MECHANISMS: dict[str, dict[str, float]] = {
    "Actin disruptors": {
        "actin": 0.5, "cortex": 0.12, "stress_fibres": 0.0, "ruffles": 0.0, "junctions": 0.05, "puncta": 26.0,
        "cell_radius": 31.0, "spikes": 0.75, "elongation": 1.25, "p_multinucleate": 0.22, "density": 0.8,
        "clustering": 0.6, "p_mitotic": 0.02, "tubulin": 1.15,
    },
    "Aurora kinase inhibitors": {
        "nucleus_area": 2150.0, "p_lobed": 0.72, "nucleus_elongation": 1.15, "cell_radius": 58.0, "density": 0.6,
        "p_mitotic": 0.02, "nucleus_intensity": 0.85, "chromatin": 0.22, "nucleoli": 5.0, "filaments": 290.0,
        "clustering": 0.3,
    },
    "Cholesterol-lowering": {
        "elongation": 3.4, "cell_radius": 33.0, "spikes": 0.35, "nucleus_elongation": 1.7, "nucleus_area": 780.0,
        "stress_fibres": 6.0, "actin": 0.75, "cortex": 0.75, "ruffles": 0.1, "density": 0.72, "clustering": 0.25,
        "filaments": 135.0, "tubulin": 1.25, "thickness": 1.25, "p_apoptotic": 0.03, "junctions": 0.1,
        "p_mitotic": 0.012,
    },
    "DNA damage": {
        "nucleus_area": 1750.0, "cell_radius": 62.0, "density": 0.48, "thickness": 0.72, "stress_fibres": 140.0,
        "nucleus_intensity": 0.72, "chromatin": 0.11, "nucleolus_radius": 4.1, "nucleoli": 2.2, "clustering": 0.15,
        "p_mitotic": 0.0, "filaments": 260.0, "filament_length": 60.0, "elongation": 1.3, "nucleus_elongation": 1.15,
    },
    "DNA replication": {
        "nucleus_area": 1520.0, "chromatin": 0.34, "grain": 0.85, "nucleoli": 1.2, "density": 0.72, "p_mitotic": 0.004,
        "nucleus_elongation": 1.12, "cell_radius": 46.0, "tubulin": 0.8, "nucleus_intensity": 1.15,
    },
    "Eg5 inhibitors": {
        "p_monoaster": 0.62, "p_mitotic": 0.0, "density": 0.85, "p_lobed": 0.05, "p_apoptotic": 0.03,
    },
    "Epithelial": {
        "junctions": 3.0, "stress_fibres": 4.0, "spikes": 0.05, "elongation": 1.08, "nucleus_elongation": 1.1,
        "cell_radius": 33.0, "clustering": 1.0, "cortex": 1.0, "ruffles": 0.05, "wobble": 0.16, "density": 1.2,
        "actin": 1.1, "thickness": 1.2,
    },
    "Kinase inhibitors": {
        "ruffles": 2.6, "stress_fibres": 6.0, "spikes": 0.08, "elongation": 1.1, "cell_radius": 39.0, "cortex": 0.3,
        "thickness": 0.85, "density": 0.75, "wobble": 0.035, "filament_length": 60.0, "clustering": 0.1,
        "p_mitotic": 0.012, "nucleus_area": 1150.0,
    },
    "Microtubule destabilizers": {
        "filaments": 5.0, "filament_length": 14.0, "tubulin_pool": 0.95, "p_fragmented": 0.46, "p_mitotic": 0.10,
        "cell_radius": 38.0, "spikes": 0.2, "elongation": 1.2, "density": 0.72, "stress_fibres": 100.0, "actin": 1.15,
        "p_apoptotic": 0.02,
    },
    "Microtubule stabilizers": {
        "bundling": 0.92, "nuclei": 3.2, "filaments": 240.0, "filament_length": 50.0, "wobble": 0.05, "tubulin": 1.35,
        "tubulin_pool": 0.25, "p_multinucleate": 0.58, "density": 0.68, "p_mitotic": 0.06, "cell_radius": 46.0,
        "spikes": 0.2, "elongation": 1.2,
    },
    "Protein degradation": {
        "aggresome": 8.5, "nucleus_area": 900.0, "nucleus_intensity": 1.3, "chromatin": 0.13, "cell_radius": 33.0,
        "thickness": 1.4, "cortex": 1.3, "stress_fibres": 10.0, "density": 0.75, "p_apoptotic": 0.07, "spikes": 0.3,
        "tubulin": 1.2, "p_mitotic": 0.02, "nucleoli": 1.5,
    },
    "Protein synthesis": {
        "nucleus_area": 780.0, "nucleoli": 1.0, "nucleolus_radius": 3.9, "chromatin": 0.09, "tubulin": 0.55,
        "actin": 0.62, "cell_radius": 36.0, "density": 0.8, "filaments": 100.0, "p_mitotic": 0.0,
        "nucleus_elongation": 1.1, "tubulin_pool": 0.6, "ruffles": 0.1,
    },
}  # fmt: skip
"""Traits of a cell at full strength of each mechanism; those not named stay as in the control."""

SPREAD = {
    "nucleus_area": 0.16, "nucleus_elongation": 0.08, "nucleus_intensity": 0.14, "chromatin": 0.2, "cell_radius": 0.14,
    "elongation": 0.16, "spikes": 0.3, "thickness": 0.12, "tubulin": 0.2, "actin": 0.24, "cortex": 0.25, "ruffles": 0.5,
    "filament_length": 0.1, "tubulin_pool": 0.12, "nucleolus_radius": 0.12,
}  # fmt: skip
"""Log standard deviation of a trait among cells of one well."""

PHASES = ("interphase", "metaphase", "anaphase", "monoaster", "apoptotic")
METAPHASE, ANAPHASE, MONOASTER, APOPTOTIC = 1, 2, 3, 4
SHAPES = ("single", "lobed", "multinucleate", "fragmented")
LOBED, MULTINUCLEATE, FRAGMENTED = 1, 2, 3


def treated(mechanism: str | None, strength: npt.NDArray[np.float64]) -> Traits:
    """Mean traits of cells at the given strengths of a mechanism, from control (0) to full (1).

    Parameters
    ----------
    mechanism : str or None
        A key of `MECHANISMS`; None for untreated cells.
    strength : (n,) float64

    Returns
    -------
    Traits
    """
    full = MECHANISMS[mechanism] if mechanism else {}
    return {name: value + strength * (full.get(name, value) - value) for name, value in CONTROL.items()}


def population(
    mechanism: str | None, strength: float, individual: dict[str, float], n: int, rng: np.random.Generator
) -> Traits:
    """Traits of n cells: their own strength, spread about its mean traits, a phase and a nuclear shape."""
    own = np.clip(strength * (1 + 0.22 * rng.standard_normal(n)), 0.0, 1.0)
    traits = treated(mechanism, own)
    for name, factor in individual.items():
        traits[name] = traits[name] * (1 + (factor - 1) * own)
    for name, spread in SPREAD.items():
        traits[name] = traits[name] * np.exp(spread * rng.standard_normal(n))
    cycle = np.where(rng.random(n) < 0.6, 0.88, 1.22)  # before and after the DNA has doubled
    traits["nucleus_area"] = traits["nucleus_area"] * cycle
    traits["cell_radius"] = traits["cell_radius"] * np.sqrt(cycle)
    traits["strength"] = own
    phase = np.zeros(n, np.int64)
    shape = np.zeros(n, np.int64)
    draw = rng.random((6, n))
    shape[draw[0] < traits["p_lobed"]] = 1
    shape[draw[1] < traits["p_multinucleate"]] = 2
    shape[draw[2] < traits["p_fragmented"]] = 3
    phase[draw[3] < traits["p_mitotic"]] = 1
    phase[(phase == 1) & (draw[3] < 0.3 * traits["p_mitotic"])] = 2
    phase[draw[4] < traits["p_monoaster"]] = 3
    phase[draw[5] < traits["p_apoptotic"]] = 4
    shape[phase > 0] = 0
    traits["phase"] = phase
    traits["shape"] = shape
    traits["round"] = (phase > 0).astype(np.float64)
    round_radius = np.select(
        [phase == 4, phase == 2], [rng.uniform(11, 15, n), rng.uniform(17, 20, n)], rng.uniform(16, 20.5, n)
    )
    traits["cell_radius"] = np.where(phase > 0, round_radius, traits["cell_radius"])
    traits["nucleus_elongation"] = np.maximum(traits["nucleus_elongation"], 1.0)
    traits["elongation"] = np.where(phase > 0, np.where(phase == 2, 1.65, 1.06), np.maximum(traits["elongation"], 1.0))
    traits["spikes"] = np.where(phase > 0, 0.0, traits["spikes"])
    traits["axis"] = rng.uniform(0, np.pi, n)
    return traits
