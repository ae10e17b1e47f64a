"""The model card: what a bundle is, for a person (Markdown) and for model hubs (YAML in front)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TAGS = ("biology", "microscopy", "image-based-profiling", "single-cell", "autoencoder")
HUB_LICENCES = ("cc-by-", "cc0-", "bsd-", "mit", "apache-")
"""How licences that model hubs know begin."""
MEASURES = (
    "sharpness_ratio and spectrum_bands (low to high frequency) are energies, reconstruction over original; 1 is best. "
    "coherence, in the same bands (coarser than 8 px, 8 to 4, 4 to 2.7, finer), tells how much of that detail is the "
    "cell's own: 1 all of it, 0 none; coherence_floor is what mismatched cells give. A decoded picture can be read "
    "down to readable_px, where coherence still lies at least halfway from its floor to 1; finer texture is mostly the "
    "model's. frame_ratio is the error in the outer 4 px over that of the inside. grid_ratio is the energy on the "
    "frequencies of the up-sampling grid over that around them; grid_ratio_original is what real cells have. The "
    "Frechet distance is taken in the features of a fixed network with random weights, so it compares with nothing but "
    "itself."
)


def write(config: Mapping[str, Any], metrics: Mapping[str, Any], title: str, limits: str) -> str:
    """The card, as Markdown with YAML front matter.

    Parameters
    ----------
    config, metrics : mapping
        The content of ``config.json`` and ``metrics.json``.
    title : str
        Of the kind of model, such as "A VAE+".
    limits : str
        What the kind says about this training.
    """
    data, recipe = config.get("data", {}), config.get("recipe", {})
    size = config["patch_size_px"]
    lines = [
        *front_matter(config, metrics),
        f"# {config['name']}",
        "",
        f"{title} of single-cell images, {size} x {size} px, channels {', '.join(config['channels'])}: each cell "
        f"becomes {config['latent_size']} numbers, and {config['latent_size']} numbers become a cell.",
        "",
        "## Data",
        "",
        "It was trained elsewhere; on which cells is not known here."
        if config.get("split", {}).get("by") == "elsewhere"
        else f"{data.get('screen', 'unknown')}: {data.get('n_cells', 0):,} cells, of which "
        f"{data.get('n_training_cells', 0):,} ({data.get('n_treatments', 0)} treatments, "
        f"{data.get('n_training_wells', 0)} wells) were trained on.",
    ]
    for one in data.get("screens", []):
        lines += ["", f"- {one['screen']}: {one['n_training_cells']:,} of {one['n_cells']:,} cells trained on"]
    if data.get("source"):
        lines += ["", f"Source: {data['source']}", ""]
    lines += [f"Licence of the data: {data.get('licence') or 'not stated'}", "", "## Split", ""]
    lines += [split_sentence(config.get("split", {})), "", "## Recipe", "", "| option | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in sorted(recipe.items())]
    lines += ["", "## Measures", ""]
    if metrics:
        lines += ["On cells that were not trained on, reconstruction against original:", ""]
        lines += ["| measure | value |", "|---|---|", *(f"| {k} | {shown(v)} |" for k, v in metrics.items())]
        lines += ["", MEASURES]
    else:
        lines.append("None: no cell is known to have been kept out of training.")
    lines += [
        "",
        "## Limits",
        "",
        "- Trained on the data above and on nothing else: another stain, microscope, magnification or cell line needs "
        "its own training.",
        "- Each channel of each patch is divided by its own maximum, so absolute intensity is not in the embedding.",
        "- A decoded image is what the model finds plausible, not an observation.",
        f"- {limits}",
        "- For research; not for diagnosis.",
        "",
    ]
    return "\n".join(lines)


def split_sentence(split: Mapping[str, Any]) -> str:
    """Which cells were kept out of training, for a person."""
    n_cells = split.get("n_held_out_cells", 0)
    if split.get("by") == "elsewhere":
        return "Not known: it was trained elsewhere."
    if split.get("by") == "cells":
        return (
            f"By cell: the screen has too few wells to keep whole wells out, so {n_cells:,} cells, chosen by a hash, "
            "were never trained on. This is weaker than a split by well, as other cells of the same wells were trained "
            "on. Blank crops were left out."
        )
    if not split.get("held_out_wells"):
        return "No cell was kept out of training. Blank crops were left out."
    return (
        f"By well: {len(split['held_out_wells'])} wells with {n_cells:,} cells, chosen by a hash of plate and well, "
        "were never trained on (listed in config.json). Blank crops were left out."
    )


def shown(value: Any) -> str:
    """A measure as a person reads it."""
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def front_matter(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """The YAML that model hubs read: licence, library, tags, data set, and measures as a model index.

    The licence is that of the data, which binds what was trained on them; "unknown" where none is stated, "other" with
    its name where hubs do not know it. Every text is written as a JSON string, which YAML reads as it stands.
    """
    data = config.get("data", {})
    licence = "-".join(str(data.get("licence") or "unknown").lower().split())
    known = licence == "unknown" or licence.startswith(HUB_LICENCES)
    lines = [
        "---",
        *([f"license: {json.dumps(licence)}"] if known else ["license: other", f"license_name: {json.dumps(licence)}"]),
        "library_name: cytovae",
        "pipeline_tag: feature-extraction",
        "tags:",
    ]
    lines += [f"- {json.dumps(tag)}" for tag in (*TAGS, config["model"])]
    if data.get("screen"):
        lines += ["datasets:", f"- {json.dumps(data['screen'])}"]
    numbers = {k: v for k, v in metrics.items() if isinstance(v, float)}
    if numbers:
        lines += ["metrics:", *(f"- {json.dumps(name)}" for name in numbers)]
        lines += ["model-index:", f"- name: {json.dumps(config['name'])}", "  results:"]
        lines += ["  - task:", "      type: feature-extraction", "    dataset:"]
        lines += [f"      name: {json.dumps(data.get('screen') or 'unknown')}", "      type: images", "    metrics:"]
        for name, value in numbers.items():
            lines += [f"    - type: {json.dumps(name)}", f"      value: {value:.6f}"]
    return [*lines, "---", ""]
