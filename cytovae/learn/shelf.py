"""Where bundles lie and how they are found by name; nothing is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from cytovae.errors import BundleError, did_you_mean

CONFIG = "config.json"
"""The file that makes a folder a bundle; it is written last."""
LOG = "training.jsonl"


def shipped_dir() -> Path:
    """Where the bundles that come with the package lie: in the installed package, or the checkout's ``models/``."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_shipped" / "models"
    return inside if inside.is_dir() else package.parent / "models"


def models_dir() -> Path:
    """Where bundles are looked for by name: ``$CYTOVAE_MODELS``, else the shipped ones."""
    return Path(os.environ["CYTOVAE_MODELS"]) if os.environ.get("CYTOVAE_MODELS") else shipped_dir()


def find(models_dir: str | Path | None = None) -> list[str]:
    """Names of the bundles in a folder (the shipped ones where None), sorted."""
    root = shipped_dir() if models_dir is None else Path(models_dir)
    return sorted(p.name for p in root.iterdir() if (p / CONFIG).exists()) if root.is_dir() else []


def require(path: Path) -> None:
    """Refuse a folder that holds no finished bundle.

    Raises
    ------
    BundleError
        Says whether a training is unfinished there.
    """
    if not (path / CONFIG).exists():
        unfinished = "; its training has not ended, go on with --resume" if (path / LOG).exists() else ""
        raise BundleError(f"there is no model bundle at {path}: it has no {CONFIG}{unfinished}")


def locate(named: str | Path, models_dir: str | Path | None = None) -> Path:
    """The folder of a bundle given as a path, or as the name of one in `models_dir` (the shipped ones where None).

    Raises
    ------
    BundleError
        There is none; says which there are.
    """
    root = shipped_dir() if models_dir is None else Path(models_dir)
    for candidate in (Path(named), root / str(named)):
        if (candidate / CONFIG).exists():
            return candidate
    if Path(named).is_dir():
        require(Path(named))
    names = find(root)
    raise BundleError(
        f"there is no model bundle {str(named)!r}{did_you_mean(str(named), names)}; "
        f"{root} holds {', '.join(names) or 'none'}, and a folder can be given by its path"
    )
