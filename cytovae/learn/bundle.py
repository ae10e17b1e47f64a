"""One model folder: ``config.json``, ``weights.safetensors``, ``README.md``, ``metrics.json``; saved, verified, used.

Nothing is ever unpickled. ``config.json`` carries the sha256 of the other three files and the weights' header that of
the configuration, so none can be exchanged alone. Reading what a bundle is (`describe`) does not import torch. How a
model encodes and decodes is known to its kind (`cytovae.learn.kinds`) alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import __version__
from cytovae.config import MAX_PATCH_PX, ScreenRecord
from cytovae.errors import BundleError, ConfigError, ScreenError
from cytovae.ingest.scale import FAR
from cytovae.learn import card, kinds
from cytovae.learn.shelf import CONFIG as CONFIG
from cytovae.learn.shelf import find as find
from cytovae.learn.shelf import locate as locate
from cytovae.learn.shelf import models_dir as models_dir
from cytovae.learn.shelf import require
from cytovae.learn.shelf import shipped_dir as shipped_dir
from cytovae.patches import normalise
from cytovae.screen import digest_file, read_json, whole_file, write_json

FORMAT = "cytovae-bundle-1"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"
CARD = "README.md"
NO_LICENCE = "not stated"
BLOCK = 32
"""Patches that go through a network at a time: what fits the caches."""
TRAINED_ON = "trained_on"
"""Among the weights: the digests (`cytovae.learn.sampling.digests`) of the patches trained on, sorted."""
FILES = {"weights": WEIGHTS, "metrics": METRICS, "card": CARD}
"""The entries of ``config.json`` that hold the sha256 of the other files."""

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
    trained_on : (n,) uint64 or None
        Digests of the patches it was trained on, sorted; None where the bundle keeps none.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    encode_block: Callable[[Array], Array] = dataclasses.field(repr=False)
    decode_block: Callable[[Array], Array] = dataclasses.field(repr=False)
    trained_on: npt.NDArray[np.uint64] | None = dataclasses.field(default=None, repr=False)

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def model(self) -> str:
        """Its kind, such as ``vae+``; see `cytovae.learn.kinds`."""
        return str(self.config["model"])

    @property
    def patch_size_px(self) -> int:
        return int(self.config["patch_size_px"])

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.config["channels"])

    @property
    def pixel_size_um(self) -> float | None:
        """Of the images it was trained on; None where that is not known."""
        said = self.config.get("data", {}).get("pixel_size_um")
        return None if said is None else float(said)

    def refuse_other_magnification(self, record: ScreenRecord) -> None:
        """Refuse a screen whose pixels are known to be of another size, `cytovae.ingest.scale.FAR` times or more.

        Raises
        ------
        ScreenError
            Says both sizes, and how to bring the screen to the model's.
        """
        mine, theirs = self.pixel_size_um, record.pixel_size_um
        if mine and theirs and max(mine, theirs) > FAR * min(mine, theirs):
            raise ScreenError(
                f"{self.name} was trained on pixels of {mine:g} um and the pixels of {record.name!r} are of {theirs:g} "
                f"um, so its cells look {mine / theirs:.2g} times as large; ingest it again with --rescale {mine:g}"
            )

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
    """The sha256 of a configuration without its entries for the other files."""
    text = json.dumps({k: v for k, v in config.items() if k not in FILES}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def save(
    path: Path,
    arrays: dict[str, npt.NDArray],
    config: dict[str, Any],
    metrics: dict[str, Any],
    trained_on: npt.NDArray[np.uint64] | None = None,
) -> None:
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
    trained_on : (n,) uint64, optional
        Digests of the patches it was trained on (`cytovae.learn.sampling.digests`).
    """
    path.mkdir(parents=True, exist_ok=True)
    kept = arrays if trained_on is None else {**arrays, TRAINED_ON: np.unique(trained_on)}
    header = {"format": FORMAT, "config": config_digest(config)}
    (path / CONFIG).unlink(missing_ok=True)
    with whole_file(path / WEIGHTS) as beside:
        weights_file(beside, kept, header)
    _finish(path, config, metrics)


def weights_file(path: Path, arrays: dict[str, npt.NDArray], header: dict[str, str]) -> None:
    """Write weights, the same bytes every time: the library writes what `header` says in another order each time."""
    from safetensors.numpy import save

    made = bytearray(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, header))
    size = int.from_bytes(made[:8], "little")
    head = json.loads(made[8 : 8 + size])
    head["__metadata__"] = dict(sorted(header.items()))
    made[8 : 8 + size] = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
    path.write_bytes(made)


def _finish(path: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Write measures, card and configuration around weights that are there."""
    kind = kinds.get(config["model"])
    write_json(path / METRICS, metrics)
    with whole_file(path / CARD) as beside:
        beside.write_text(card.write(config, metrics, kind.title, kind.limits(config.get("recipe", {}))))
    write_json(path / CONFIG, {**config, **{entry: digest_file(path / name) for entry, name in FILES.items()}})


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


def update_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Replace a bundle's measures, and its card with them; the weights stay."""
    describe(path)
    _finish(path, read_json(path / CONFIG, BundleError), metrics)


def _whole(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _text(value: Any) -> bool:
    return isinstance(value, str)


_TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "model", "cytovae", *FILES), _text),
    "channels": lambda value: isinstance(value, list) and 1 <= len(value) <= 1000 and all(map(_text, value)),
    "latent_size": _whole(2**20),
    "patch_size_px": _whole(MAX_PATCH_PX),
    **dict.fromkeys(("recipe", "split", "data"), lambda value: isinstance(value, dict)),
}
"""What the entries of ``config.json`` may be."""


def describe(path: Path) -> dict[str, Any]:
    """The configuration of a bundle, without loading weights or torch.

    Raises
    ------
    BundleError
        There is no bundle at `path`, or it is none of ours.
    """
    path = Path(path)
    require(path)
    config = read_json(path / CONFIG, BundleError)
    if not isinstance(config, dict):
        raise BundleError(f"{path / CONFIG} cannot be understood: it holds no keys and values")
    found = config.get("format")
    if found != FORMAT:
        raise BundleError(f"{path} is of format {found!r}; this cytovae reads {FORMAT!r}")
    missing = {"name", "model", "channels", "latent_size", "patch_size_px", "weights"} - config.keys()
    if missing:
        raise BundleError(f"{path / CONFIG} lacks {', '.join(sorted(missing))}; the bundle is damaged")
    for key, fits in _TYPES.items():
        if key in config and not fits(config[key]):
            raise BundleError(f"{path / CONFIG} gives {config[key]!r:.60} as {key}; the bundle is damaged")
    return {**config, "name": path.resolve().name}


def read_metrics(path: Path) -> dict[str, Any]:
    """A bundle's measures; empty where it has none."""
    try:
        found = read_json(Path(path) / METRICS, BundleError)
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise BundleError(f"{Path(path) / METRICS} cannot be understood: it holds no measures by name")
    return found


_WEIGHTS_ALONE = (["0", "1"], ["0", "2"])
"""Versions of cytovae whose bundles keep the digest of their weights alone; `seal` adds the others."""


def seal(path: Path) -> None:
    """Write a bundle's card and all its digests anew; its weights must be those that it was made with.

    For a bundle whose measures were changed on purpose, or that was made before measures and card had digests.

    Raises
    ------
    BundleError
        There is no bundle, or its weights are other ones.
    """
    _same(path, WEIGHTS, describe(path)["weights"])
    update_metrics(path, read_metrics(path))


def _same(path: Path, name: str, expected: str) -> None:
    """Refuse a bundle in which a file is missing or was changed."""
    if not (path / name).exists():
        raise BundleError(f"the bundle {path} has no {name}; fetch or train the bundle again")
    if (found := digest_file(path / name)) != expected:
        raise BundleError(
            f"{path / name} is not the file its bundle was made with: sha256 {found[:12]}..., expected "
            f"{expected[:12]}...; fetch or train the bundle again"
        )


def _verified(path: Path, config: dict[str, Any]) -> None:
    """Refuse a bundle of which a file is missing or was changed."""
    for entry, name in FILES.items():
        if entry in config:
            _same(path, name, config[entry])
        elif str(config.get("cytovae", "")).split(".")[:2] not in _WEIGHTS_ALONE:
            raise BundleError(f"{path / CONFIG} lacks the digest of {name}; fetch or train the bundle again")


def verify(path: str | Path) -> dict[str, Any]:
    """The configuration of a bundle whose files are the ones it was made with; torch is not imported.

    Raises
    ------
    BundleError
        It is missing, foreign or tampered with: names the file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    config = describe(path)
    _verified(path, config)
    try:
        with safe_open(path / WEIGHTS, "np") as handle:
            header = handle.metadata() or {}
    except SafetensorError as broken:
        raise BundleError(f"{path / WEIGHTS} is no safetensors file: {broken}") from None
    stored = read_json(path / CONFIG, BundleError)
    if header.get("format") != FORMAT or header.get("config") != config_digest(stored):
        raise BundleError(
            f"{path / CONFIG} was changed after its weights were written; fetch or train the bundle again"
        )
    return config


def licence(config: dict[str, Any]) -> str:
    """The licence of the images a model was trained on, which binds its weights."""
    return str(config.get("data", {}).get("licence") or NO_LICENCE)


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
        It is missing, foreign or tampered with, or no installed package knows its kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    config = verify(path)
    try:
        arrays = load_file(path / WEIGHTS)
    except SafetensorError as broken:
        raise BundleError(f"{path / WEIGHTS} is no safetensors file: {broken}") from None
    trained_on = arrays.pop(TRAINED_ON, None)
    return ready(path, arrays, config, read_metrics(path), trained_on, device)


def ready(
    path: Path,
    arrays: dict[str, npt.NDArray],
    config: dict[str, Any],
    metrics: dict[str, Any],
    trained_on: npt.NDArray[np.uint64] | None = None,
    device: str = "cpu",
) -> Bundle:
    """A bundle of weights in memory, with its kind's encoder and decoder; what `save` takes, before it is written.

    Raises
    ------
    BundleError
        No installed package knows its kind, or the weights do not fit it.
    """
    try:
        kind = kinds.get(config["model"])
    except ConfigError as unknown:
        raise BundleError(f"{path} cannot be used: {unknown}") from None
    try:
        encode, decode = kind.load(arrays, config, device)
    except (KeyError, TypeError, ValueError, IndexError, ConfigError) as unfit:
        raise BundleError(f"the weights of {path} do not fit its {config['model']}: {unfit}") from None
    return Bundle(path, config, metrics, encode, decode, trained_on)


def trained_patches(path: Path) -> npt.NDArray[np.uint64] | None:
    """Digests of the patches a bundle was trained on, without loading its networks; None where it keeps none.

    Raises
    ------
    BundleError
        The bundle is missing, foreign or tampered with.
    """
    from safetensors import SafetensorError, safe_open

    config = describe(path)
    _verified(path, config)
    try:
        with safe_open(Path(path) / WEIGHTS, "np") as handle:
            return handle.get_tensor(TRAINED_ON) if TRAINED_ON in handle.keys() else None  # noqa: SIM118
    except SafetensorError as broken:
        raise BundleError(f"{Path(path) / WEIGHTS} is no safetensors file: {broken}") from None


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
