"""The numbers of a path as a table, a JSON document or CSV, and the provenance read back from any exported file."""

from __future__ import annotations

import html
import io
import json
from typing import Any

import numpy as np
import pandas as pd

from cytovae.explore.evidence import OFF_DATA_PERCENTILE, Evidence
from cytovae.explore.paths import Path
from cytovae.explore.render.webpage import RECORD_ID
from cytovae.screen import csv_text

PROVENANCE = "Metadata_Provenance"


def table(path: Path, evidence: Evidence | None = None, morphology: pd.DataFrame | None = None) -> pd.DataFrame:
    """A path as a table, one row per step; the numbers under the pictures.

    ``n_features`` is empty where the steps do not move some features at a time.

    Parameters
    ----------
    morphology : DataFrame, optional
        One row per step, see `cytovae.explore.morphology.measure`.
    """
    out = pd.DataFrame(
        {
            "step": np.arange(path.steps),
            "n_features": path.n_features if path.by_features else [None] * path.steps,
            "way": path.way,
            "distance_share": path.distance_share,
            "cosine": path.cosine,
            "cosine_reencoded": path.cosine_reencoded,
        }
    )
    if path.labels:
        out.insert(1, "label", list(path.labels))
    if evidence is not None:
        out["nearest_cell"] = evidence.nearest_ids[:, 0]
        out["nearest_treatment"] = evidence.nearest_treatments[:, 0]
        out["nearest_distance"] = evidence.nearest_distances[:, 0]
        out["support_percentile"] = evidence.support_percentile
        out["rarity"] = evidence.rarity
        out["off_data"] = evidence.off_data
        if evidence.pictures is not None:
            out["plausibility"] = evidence.pictures.p
            out["implausible"] = evidence.pictures.implausible
            out["implausible_why"] = evidence.pictures.why
        if evidence.gap_closed is not None:
            out["gap_closed"] = evidence.gap_closed
    if morphology is not None:
        out = pd.concat([out, morphology.reset_index(drop=True)], axis=1)
    return out


def document(
    path: Path, record: dict[str, Any], evidence: Evidence | None = None, morphology: pd.DataFrame | None = None
) -> dict[str, Any]:
    """A path as a JSON document, with its provenance; not-a-number becomes null."""
    steps = json.loads(table(path, evidence, morphology).to_json(orient="records", double_precision=10))
    change = path.z[-1].astype(np.float64) - path.z[0].astype(np.float64)
    return {
        "control": path.control_id,
        "target": path.target_id,
        "mode": path.mode,
        "spacing": path.spacing,
        "length": path.length,
        "length_percentile_of_null": None if evidence is None else evidence.length_percentile,
        "typicality": None if evidence is None else evidence.typicality,
        "off_data_percentile": OFF_DATA_PERCENTILE,
        "steps": steps,
        "features": [{"feature": int(f), "change": float(change[f])} for f in path.order],
        "provenance": record,
    }


def json_bytes(document: dict[str, Any]) -> bytes:
    """A document as a JSON file's content."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def csv(steps: pd.DataFrame, record: dict[str, Any]) -> bytes:
    """A table as CSV, UTF-8, with the provenance as JSON in a last column, the same in every row."""
    return csv_text(steps.assign(**{PROVENANCE: json.dumps(record, sort_keys=True)})).encode()


def provenance_in(content: bytes, suffix: str) -> dict[str, Any]:
    """The provenance inside a file made here, or an empty dict where there is none.

    Parameters
    ----------
    content : bytes
    suffix : str
        ``.png``, ``.gif``, ``.svg``, ``.html``, ``.csv`` or ``.json``.
    """
    from PIL import Image

    try:
        if suffix in (".png", ".gif"):
            with Image.open(io.BytesIO(content)) as image:
                found = image.info.get("cytovae" if suffix == ".png" else "comment", "{}")
        elif suffix == ".svg":
            found = html.unescape(content.decode().partition("<metadata>")[2].partition("</metadata>")[0])
        elif suffix == ".html":
            found = content.decode().partition(f'id="{RECORD_ID}">')[2].partition("</script>")[0]
        elif suffix == ".csv":
            found = pd.read_csv(io.BytesIO(content), nrows=1)[PROVENANCE].iloc[0]
        else:
            found = json.dumps(json.loads(content)["provenance"])
        record = json.loads(found)
    except (ValueError, KeyError, IndexError, TypeError, OSError):  # whatever else the file is, it is not ours
        return {}
    return record if isinstance(record, dict) else {}
