"""One model folder: ``config.json``, ``weights.safetensors``, ``README.md``, ``metrics.json``; saved, verified, used.

Nothing is ever unpickled. ``config.json`` carries the sha256 of the weights and the weights' header that of the
configuration, so neither can be exchanged alone. Reading what a bundle is (`describe`, `find`) does not import torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cytovae import __version__
from cytovae.errors import BundleError, did_you_mean
from cytovae.learn.sampling import normalise
from cytovae.screen import digest_file, whole_file, write_json

if TYPE_CHECKING:
    from cytovae.nets.autoencoders import Networks

FORMAT = "cytovae-bundle-1"
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
METRICS = "metrics.json"
CARD = "README.md"
BLOCK = 32
"""Patches that go through a network at a time: what fits the caches."""

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained model, ready for use by any number of threads.

    Parameters
    ----------
    path : Path
    config : dict
        The content of ``config.json``.
    metrics : dict
        The content of ``metrics.json``; empty where there is none.
    encode_block, decode_block : callable
        ``(n, H, W, C)`` float32 in [0, 1] -> ``(n, d)`` float32, and back.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    encode_block: Callable[[Array], Array] = dataclasses.field(repr=False)
    decode_block: Callable[[Array], Array] = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def model(self) -> str:
        """``ae``, ``vae``, ``vae+`` or ``pca``."""
        return str(self.config["model"])

    @property
    def patch_size_px(self) -> int:
        return int(self.config["patch_size_px"])

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.config["channels"])

    @property
    def latent_size(self) -> int:
        return int(self.config["latent_size"])

    @property
    def digest(self) -> str:
        """The sha256 of the weights."""
        return str(self.config["weights"])

    def encode(self, images: npt.NDArray) -> Array:
        """Embeddings of patches.

        Parameters
        ----------
        images : (n, H, W, C) array
            Raw or normalised: each channel of each patch is divided by its own maximum here.

        Returns
        -------
        (n, d) float32

        Raises
        ------
        BundleError
            The patches have another size or number of channels than the model.
        """
        wanted = (self.patch_size_px, self.patch_size_px, len(self.channels))
        if images.ndim != 4 or images.shape[1:] != wanted:
            raise BundleError(
                f"{self.name} encodes patches of shape (n, {wanted[0]}, {wanted[1]}, {wanted[2]}), not {images.shape}"
            )
        out = np.empty((len(images), self.latent_size), dtype=np.float32)
        for start in range(0, len(images), BLOCK):
            out[start : start + BLOCK] = self.encode_block(normalise(images[start : start + BLOCK]))
        return out

    def decode(self, z: npt.NDArray) -> Array:
        """Patches of embeddings, as the model gives them (not clipped).

        Parameters
        ----------
        z : (n, d) array

        Returns
        -------
        (n, H, W, C) float32

        Raises
        ------
        BundleError
            The embeddings have another length than the model's.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_size:
            raise BundleError(f"{self.name} decodes embeddings of shape (n, {self.latent_size}), not {z.shape}")
        z = np.ascontiguousarray(z, dtype=np.float32)
        out = np.empty((len(z), self.patch_size_px, self.patch_size_px, len(self.channels)), dtype=np.float32)
        for start in range(0, len(z), BLOCK):
            out[start : start + BLOCK] = self.decode_block(z[start : start + BLOCK])
        return out


def config_digest(config: dict[str, Any]) -> str:
    """The sha256 of a configuration without its ``weights`` entry."""
    text = json.dumps({k: v for k, v in config.items() if k != "weights"}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def save(path: Path, arrays: dict[str, npt.NDArray], config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write a bundle; ``config.json``, which makes the folder a bundle, comes last.

    Parameters
    ----------
    path : Path
        Its folder; other files in it stay.
    arrays : dict of str to array
        The weights.
    config : dict
        What `new_config` gives.
    metrics : dict
        Measures by name.
    """
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "config": config_digest(config)}
    (path / CONFIG).unlink(missing_ok=True)
    with whole_file(path / WEIGHTS) as beside:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, beside, metadata=header)
    write_json(path / METRICS, metrics)
    config = {**config, "weights": digest_file(path / WEIGHTS)}
    with whole_file(path / CARD) as beside:
        beside.write_text(card(config, metrics))
    write_json(path / CONFIG, config)


def new_config(
    name: str, model: str, channels: tuple[str, ...], latent_size: int, patch_size_px: int, **more: Any
) -> dict[str, Any]:
    """The configuration of a new bundle; `more` are ``recipe``, ``split``, ``data`` and the like (JSON types)."""
    return {
        "format": FORMAT,
        "cytovae": __version__,
        "name": name,
        "model": model,
        "channels": list(channels),
        "latent_size": latent_size,
        "patch_size_px": patch_size_px,
        **more,
    }


def network_arrays(nets: Networks) -> dict[str, npt.NDArray]:
    """The weights of encoder and decoder: what a bundle keeps."""
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in nets.state_dict().items()
        if not name.startswith("discriminator.")
    }


def update_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Replace a bundle's measures, and its card with them; the weights stay."""
    config = describe(path)
    write_json(path / METRICS, metrics)
    with whole_file(path / CARD) as beside:
        beside.write_text(card(config, metrics))


def describe(path: Path) -> dict[str, Any]:
    """The configuration of a bundle, without loading weights or torch.

    Raises
    ------
    BundleError
        There is no bundle at `path`, or it is none of ours.
    """
    path = Path(path)
    if not (path / CONFIG).exists():
        unfinished = "; its training has not ended, go on with --resume" if (path / "training.jsonl").exists() else ""
        raise BundleError(f"there is no model bundle at {path}: it has no {CONFIG}{unfinished}")
    try:
        config = json.loads((path / CONFIG).read_text())
        found = config.get("format")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as broken:
        raise BundleError(f"{path / CONFIG} cannot be understood: {broken}") from None
    if found != FORMAT:
        raise BundleError(f"{path} is of format {found!r}; this cytovae reads {FORMAT!r}")
    missing = {"name", "model", "channels", "latent_size", "patch_size_px", "weights"} - config.keys()
    if missing:
        raise BundleError(f"{path / CONFIG} lacks {', '.join(sorted(missing))}; the bundle is damaged")
    return {**config, "name": path.resolve().name}


def read_metrics(path: Path) -> dict[str, Any]:
    """A bundle's measures; empty where it has none."""
    try:
        return dict(json.loads((Path(path) / METRICS).read_text()))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as broken:
        raise BundleError(f"{Path(path) / METRICS} cannot be understood: {broken}") from None


def load(path: str | Path, device: str = "cpu") -> Bundle:
    """A bundle, verified and ready for use.

    Parameters
    ----------
    path : str or Path
        Its folder.
    device : str
        Of torch, for the networks.

    Raises
    ------
    BundleError
        It is missing, foreign or tampered with.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    path = Path(path)
    config = describe(path)
    weights = path / WEIGHTS
    if not weights.exists():
        raise BundleError(f"the bundle {path} has no {WEIGHTS}")
    if (found := digest_file(weights)) != config["weights"]:
        raise BundleError(
            f"{weights} is not the file its bundle was made with: sha256 {found[:12]}..., expected "
            f"{str(config['weights'])[:12]}...; fetch or train the bundle again"
        )
    try:
        with safe_open(weights, "np") as handle:
            header = handle.metadata() or {}
        arrays = load_file(weights)
    except SafetensorError as broken:
        raise BundleError(f"{weights} is no safetensors file: {broken}") from None
    stored = json.loads((path / CONFIG).read_text())
    if header.get("format") != FORMAT or header.get("config") != config_digest(stored):
        raise BundleError(
            f"{path / CONFIG} was changed after its weights were written; fetch or train the bundle again"
        )
    if config["model"] == "pca":
        encode, decode = _linear(arrays, config)
    else:
        encode, decode = _networks(arrays, config, path, device)
    return Bundle(path, config, read_metrics(path), encode, decode)


def choose_device(asked: str) -> str:
    """The device to load a model on: what was asked for, or with ``auto`` a GPU where there is one.

    Raises
    ------
    BundleError
        It is not there.
    """
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as absent:
        raise BundleError(f"there is no device {asked!r}: {str(absent).splitlines()[0]}; use cpu or auto") from None
    return asked


def _linear(
    arrays: dict[str, npt.NDArray], config: dict[str, Any]
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    mean, components = arrays["mean"], arrays["components"]  # (H*W*C,), (d, H*W*C)
    size, channels = config["patch_size_px"], len(config["channels"])

    def encode(x: Array) -> Array:
        return np.asarray((x.reshape(len(x), -1) - mean) @ components.T, dtype=np.float32)

    def decode(z: Array) -> Array:
        return np.asarray(z @ components + mean, dtype=np.float32).reshape(-1, size, size, channels)

    return encode, decode


def _networks(
    arrays: dict[str, npt.NDArray], config: dict[str, Any], path: Path, device: str
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    import torch

    from cytovae.nets.autoencoders import Folded, Networks

    margin_px = config.get("recipe", {}).get("decoder_margin_px", 0)
    nets = Networks(len(config["channels"]), False, config["patch_size_px"], margin_px)
    try:
        nets.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
    except RuntimeError as unfit:
        raise BundleError(
            f"the weights of {path} do not fit its networks: {str(unfit).splitlines()[-1].strip()}"
        ) from None
    folded = Folded(nets.to(device))

    def encode(x: Array) -> Array:
        return folded.encode(torch.from_numpy(x).to(device).permute(0, 3, 1, 2)).cpu().numpy()

    def decode(z: Array) -> Array:
        return folded.decode(torch.from_numpy(z).to(device)).permute(0, 2, 3, 1).cpu().numpy()

    return encode, decode


def shipped_dir() -> Path:
    """Where the bundles that come with the package lie: in the installed package, or the checkout's ``models/``."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_shipped" / "models"
    return inside if inside.is_dir() else package.parent / "models"


def find(models_dir: str | Path | None = None) -> list[str]:
    """Names of the bundles in a folder (the shipped ones where None), sorted."""
    root = shipped_dir() if models_dir is None else Path(models_dir)
    return sorted(p.name for p in root.iterdir() if (p / CONFIG).exists()) if root.is_dir() else []


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
        describe(Path(named))
    names = find(root)
    raise BundleError(
        f"there is no model bundle {str(named)!r}{did_you_mean(str(named), names)}; "
        f"{root} holds {', '.join(names) or 'none'}, and a folder can be given by its path"
    )


def card(config: dict[str, Any], metrics: dict[str, Any]) -> str:
    """The model card, as Markdown.

    Parameters
    ----------
    config, metrics : dict
        The content of ``config.json`` and ``metrics.json``.
    """
    titles = {"ae": "An autoencoder (AE)", "vae": "A variational autoencoder (VAE)", "vae+": "A VAE+", "pca": "PCA"}
    data, split, recipe = (config.get(key, {}) for key in ("data", "split", "recipe"))
    lines = [
        f"# {config['name']}",
        "",
        f"{titles.get(config['model'], config['model'])} of single-cell images, {config['patch_size_px']} x "
        f"{config['patch_size_px']} px, channels {', '.join(config['channels'])}: each cell becomes "
        f"{config['latent_size']} numbers, and {config['latent_size']} numbers become a cell.",
        "",
        "## Data",
        "",
        f"{data.get('screen', 'unknown')}: {data.get('n_cells', 0):,} cells, of which "
        f"{data.get('n_training_cells', 0):,} ({data.get('n_treatments', 0)} treatments, "
        f"{data.get('n_training_wells', 0)} wells) were trained on.",
    ]
    if data.get("source"):
        lines += ["", f"Source: {data['source']}", ""]
    lines += [f"Licence of the data: {data.get('licence') or 'not stated'}", "", "## Split", ""]
    lines.append(
        f"By well: {len(split.get('held_out_wells', []))} wells with {split.get('n_held_out_cells', 0):,} cells, "
        "chosen by a hash of plate and well, were never trained on (listed in config.json). Blank crops were left out."
    )
    lines += ["", "## Recipe", "", "| option | value |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in sorted(recipe.items())]
    lines += ["", "## Measures", ""]
    if metrics:
        lines += [
            "On cells of the held-out wells, reconstruction against original:",
            "",
            "| measure | value |",
            "|---|---|",
        ]
        for key, value in metrics.items():
            lines.append(f"| {key} | {_shown(value)} |")
        lines += [
            "",
            "sharpness_ratio and spectrum_bands (low to high frequency) are energies, reconstruction over original; "
            "1 is best. coherence, in the same bands (coarser than 8 px, 8 to 4, 4 to 2.7, finer), tells how much of "
            "that detail is the cell's own: 1 all of it, 0 none; coherence_floor is what mismatched cells give. "
            "A decoded picture can be read down to readable_px, where coherence still lies at least halfway from its "
            "floor to 1; finer texture is mostly the model's. frame_ratio is the error in the outer 4 px over that of "
            "the inside. grid_ratio is the energy on the frequencies of the up-sampling grid over that around them; "
            "grid_ratio_original is what real cells have. The Frechet distance is taken in the features of a fixed "
            "network with random weights, so it compares with nothing but itself.",
        ]
    else:
        lines.append("None yet.")
    lines += [
        "",
        "## Limits",
        "",
        "- Trained on the data above and on nothing else: another stain, microscope, magnification or cell line needs "
        "its own training.",
        "- Each channel of each patch is divided by its own maximum, so absolute intensity is not in the embedding.",
        "- A decoded image is what the model holds for likely, not an observation.",
        "- A baseline: linear in the pixels."
        if config["model"] == "pca"
        else f"- {recipe['iterations']:,} iterations of {recipe['batch_size']} cells; the paper's are 40,000 of 104.",
        "- For research; not for diagnosis.",
        "",
    ]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """A measure as a person reads it."""
    if isinstance(value, list):
        return ", ".join(_shown(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def models_dir() -> Path:
    """Where bundles are looked for by name: ``$CYTOVAE_MODELS``, else the shipped ones."""
    return Path(os.environ["CYTOVAE_MODELS"]) if os.environ.get("CYTOVAE_MODELS") else shipped_dir()
