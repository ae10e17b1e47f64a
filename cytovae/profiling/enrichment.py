"""Which mechanisms a selection of cells holds more of than chance would.

Cells of one compound resemble each other, so they are no witnesses of their own: what is counted is compounds. A
compound is in the selection if a larger share of its cells is selected than of all treated cells. That does not depend
on its mechanism; if mechanisms had nothing to do with where the cells lie, those of the compounds in the selection
would be a draw without replacement from all, and their number hypergeometric.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.errors import TableError

COLUMNS = ("moa", "n_selected", "n_cells", "fold", "k_compounds", "n_compounds", "p", "p_corrected")


def of_selection(cells: pd.DataFrame, selected: npt.NDArray[np.bool_], control: str = "DMSO") -> pd.DataFrame:
    """Counts of a selection by mechanism, with how rarely chance alone would have gathered as many compounds.

    A selection drawn round points that were seen to lie together was chosen for its likeness: p says how sure the
    mechanism is, not that there is a group.

    Parameters
    ----------
    cells : DataFrame
        ``Metadata_Compound`` and ``Metadata_MoA``; blank cells (``Metadata_Blank``) are not counted.
    selected : (n,) bool
    control : str
        Compound name of the controls, which are counted but not tested.

    Returns
    -------
    DataFrame
        One row per mechanism with selected cells, the most enriched first: `COLUMNS`. ``fold``: its share of the
        selected cells over its share of all cells. ``k_compounds`` of its ``n_compounds`` compounds are in the
        selection. ``p`` (one-sided) and ``p_corrected`` (Benjamini-Hochberg over all tested mechanisms of the screen)
        are missing for controls and for unknown mechanisms.

    Raises
    ------
    TableError
        The selection does not fit the cells.
    """
    from scipy.stats import false_discovery_control, hypergeom

    schema.require_columns(cells, [schema.COMPOUND, schema.MOA], "the table of cells")
    if len(selected) != len(cells):
        raise TableError(f"a selection of {len(selected)} rows does not fit {len(cells)} cells")
    good = schema.not_blank(cells)
    table = cells.loc[good, [schema.COMPOUND, schema.MOA]].assign(selected=np.asarray(selected, bool)[good])
    if not len(table) or not table["selected"].any():
        return pd.DataFrame(columns=list(COLUMNS))
    by_moa = table.groupby(schema.MOA, observed=True)["selected"]
    out = pd.DataFrame({"n_selected": by_moa.sum(), "n_cells": by_moa.size()})
    out["fold"] = (out["n_selected"] / out["n_selected"].sum()) / (out["n_cells"] / out["n_cells"].sum())
    treated = table[table[schema.COMPOUND] != control]
    share = treated.groupby([schema.MOA, schema.COMPOUND], observed=True)["selected"].mean()
    inside = share > treated["selected"].mean()
    of_moa = inside.groupby(level=0)
    out["k_compounds"] = of_moa.sum().reindex(out.index, fill_value=0).astype(int)
    out["n_compounds"] = of_moa.size().reindex(out.index, fill_value=0).astype(int)
    tested = (out["n_compounds"] > 0) & (out.index != schema.UNKNOWN_MOA)
    out["p"] = np.nan
    out.loc[tested, "p"] = hypergeom.sf(
        out.loc[tested, "k_compounds"] - 1, len(inside), out.loc[tested, "n_compounds"], int(inside.sum())
    )
    out["p_corrected"] = np.nan
    if tested.any():
        out.loc[tested, "p_corrected"] = false_discovery_control(out.loc[tested, "p"])
    out = out[out["n_selected"] > 0].sort_values(["p", "fold"], ascending=[True, False], kind="stable")
    return out.rename_axis("moa").reset_index()[list(COLUMNS)]
