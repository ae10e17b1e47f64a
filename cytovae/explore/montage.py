"""A mechanism by dose in one figure: the typical and the most changed cell of every treatment, for a slide."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError, did_you_mean
from cytovae.explore import targets
from cytovae.explore.render import Look, StripRow, shared_limits, strip
from cytovae.screen import Screen, digest_file, provenance


class Form(enum.StrEnum):
    """What a montage can be written as."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"

    @classmethod
    def of(cls, path: Path) -> Form:
        """The form that a file's name asks for.

        Raises
        ------
        ConfigError
            It ends otherwise.
        """
        try:
            return cls(path.suffix.removeprefix(".").lower())
        except ValueError:
            there = ", ".join(f".{form}" for form in cls)
            raise ConfigError(f"a montage is written as {there}, not {path.suffix or path.name!r}") from None


@dataclass(frozen=True)
class Place:
    """A treatment and the cells that stand for it.

    Parameters
    ----------
    compound : str
    concentration : float
        In uM; nan where there is no dose.
    n_cells : int
        Not blank, of which they were chosen.
    typical : str
        Id of the cell closest to the mean of the treatment's cells.
    changed : str or None
        Id of the other cell that lies farthest from the controls' mean in the treatment's own direction; None where
        there is one cell.
    """

    compound: str
    concentration: float
    n_cells: int
    typical: str
    changed: str | None


@dataclass(frozen=True)
class Montage:
    """What stands in the figure.

    Parameters
    ----------
    mechanism : str
    control : Place
        Its ``changed`` cell is the one least like the typical control.
    places : tuple of Place
        By compound, then dose.
    """

    mechanism: str
    control: Place
    places: tuple[Place, ...]

    @property
    def cell_ids(self) -> list[str]:
        """Every cell of the figure, each once."""
        every = [cell for place in (self.control, *self.places) for cell in (place.typical, place.changed)]
        return list(dict.fromkeys(cell for cell in every if cell is not None))


def choose(cells: pd.DataFrame, embeddings: targets.Embeddings, mechanism: str, control: str = "DMSO") -> Montage:
    """The cells of a mechanism's montage.

    Parameters
    ----------
    cells : DataFrame
        The embedded cells, row by row as `embeddings`.
    embeddings : (n, d)
    mechanism : str
    control : str
        Compound name of the controls.

    Raises
    ------
    SelectionError
        No cell has this mechanism (near names are suggested), or there are no controls.
    """
    of_control = targets.controls(cells, control)
    treated = (cells[schema.COMPOUND] != control).to_numpy() & schema.not_blank(cells)
    mine = np.flatnonzero(treated & (cells[schema.MOA] == mechanism).to_numpy())
    if not len(mine):
        known = sorted(cells.loc[treated, schema.MOA].dropna().astype(str).unique())
        hint = did_you_mean(mechanism, known) or f"; there is {', '.join(known)}"
        raise SelectionError(f"no treated cell has the mechanism {mechanism!r}{hint}")
    centre = np.asarray(embeddings[of_control], dtype=np.float64).mean(axis=0)
    by = [cells[c].iloc[mine].to_numpy() for c in (schema.COMPOUND, schema.CONCENTRATION)]
    groups = pd.Series(mine).groupby(by, sort=True, dropna=False)
    places = tuple(_place(cells, embeddings, rows.to_numpy(), centre) for _, rows in groups)
    return Montage(mechanism, _place(cells, embeddings, of_control, None), places)


def _place(
    cells: pd.DataFrame, embeddings: targets.Embeddings, rows: targets.Rows, centre: npt.NDArray[np.float64] | None
) -> Place:
    """The cells that stand for rows; without a centre to lead away from, the one farthest from their own."""
    typical = targets.closest_to_mean(embeddings, rows)
    z = np.asarray(embeddings[rows], dtype=np.float64)
    mean = z.mean(axis=0)
    far = np.linalg.norm(z - mean, axis=1) if centre is None else (z - centre) @ (mean - centre)
    changed = int(rows[np.argmax(np.where(rows == typical, -np.inf, far))])
    ids = cells[schema.CELL_ID]
    return Place(
        str(cells[schema.COMPOUND].iloc[typical]),
        float(cells[schema.CONCENTRATION].iloc[typical]),
        len(rows),
        str(ids.iloc[typical]),
        None if len(rows) < 2 else str(ids.iloc[changed]),
    )


def record(screen: Screen, model: str, mechanism: str, look: str, gamma: float) -> dict[str, Any]:
    """The provenance of a montage."""
    return provenance(
        "montage",
        config={"model": model, "mechanism": mechanism, "look": str(look), "gamma": gamma},
        inputs={
            "cells": screen.cells_digest(),
            "embeddings": digest_file(screen.embeddings_path(model) / "embeddings.npy"),
        },
    )


def figure(
    chosen: Montage,
    pictures: Callable[[list[str]], npt.NDArray[Any]],
    channels: Sequence[str],
    pixel_size_um: float | None,
    form: Form,
    look: Look = Look.RGB,
    gamma: float = 1.0,
    made: dict[str, Any] | None = None,
) -> bytes:
    """The figure: a column a dose, two rows a compound, controls first; one contrast for all pictures.

    Parameters
    ----------
    chosen : Montage
    pictures : callable
        Cell ids -> (n, H, W, C), normalised.
    channels : sequence of str
    pixel_size_um : float or None
    form : Form
    look : Look
    gamma : float
    made : dict, optional
        Provenance, written into the file.
    """
    ids = chosen.cell_ids
    images = dict(zip(ids, pictures(ids), strict=True))
    doses = sorted({place.concentration for place in chosen.places if place.concentration == place.concentration})
    column = {dose: k for k, dose in enumerate(doses)}
    control = chosen.control
    rows = [
        StripRow(
            f"{control.compound}\n{control.n_cells:,} cells",
            np.stack([images[cell] for cell in (control.typical, control.changed) if cell is not None]),
            ["typical", "least typical"][: 1 + (control.changed is not None)],
        )
    ]
    for compound in dict.fromkeys(place.compound for place in chosen.places):
        mine = [place for place in chosen.places if place.compound == compound]
        at = [column.get(place.concentration, 0) for place in mine]
        rows.append(StripRow(f"{compound}\ntypical", np.stack([images[p.typical] for p in mine]), columns=at))
        far = [(images[p.changed or p.typical], k) for p, k in zip(mine, at, strict=True)]
        captions = [f"{_dose(p.concentration)}{p.n_cells:,} cell{'s' * (p.n_cells != 1)}" for p in mine]
        rows.append(StripRow("most changed", np.stack([image for image, _ in far]), captions, columns=at))
    limits = shared_limits(np.stack(list(images.values())))
    title = f"{chosen.mechanism}, by dose"
    return strip(rows, channels, limits, look, gamma, pixel_size_um, title, form=form, record=made)


def _dose(concentration: float) -> str:
    return f"{concentration:g} µM\n" if concentration == concentration else ""
