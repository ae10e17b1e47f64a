"""AE, VAE and VAE+ as kinds of model: from options to a training, from weights to encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cytovae import config as configs
from cytovae.errors import BundleError
from cytovae.learn.kinds import Coder, Floats, Kind, Run
from cytovae.learn.pool import Pool
from cytovae.screen import Screen

if TYPE_CHECKING:
    from cytovae.nets.autoencoders import Networks

PAPER_ITERATIONS, PAPER_BATCH = 40_000, 104


def arrays_of(nets: Networks) -> dict[str, npt.NDArray]:
    """The weights of encoder and decoder: what a bundle keeps."""
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in nets.state_dict().items()
        if not name.startswith("discriminator.")
    }


def load(arrays: dict[str, npt.NDArray], config: dict[str, Any], device: str) -> tuple[Coder, Coder]:
    """Encoder and decoder, batch norm folded into the kernels.

    Raises
    ------
    BundleError
        The weights are of other networks.
    """
    import torch

    from cytovae.nets.autoencoders import Folded, Networks

    margin_px = config.get("recipe", {}).get("decoder_margin_px", 0)
    nets = Networks(len(config["channels"]), False, config["patch_size_px"], margin_px)
    try:
        nets.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
    except RuntimeError as unfit:
        raise BundleError(
            f"the weights of {config['name']} do not fit its networks: {str(unfit).splitlines()[-1].strip()}"
        ) from None
    folded = Folded(nets.to(device))

    def encode(x: Floats) -> Floats:
        return np.asarray(folded.encode(torch.from_numpy(x).to(device).permute(0, 3, 1, 2)).cpu().numpy())

    def decode(z: Floats) -> Floats:
        return np.asarray(folded.decode(torch.from_numpy(z).to(device)).permute(0, 2, 3, 1).cpu().numpy())

    return encode, decode


def limits(recipe: dict[str, Any]) -> str:
    """How the training compares in length with the paper's."""
    return (
        f"{recipe.get('iterations', 0):,} iterations of {recipe.get('batch_size', 0)} cells; the paper's are "
        f"{PAPER_ITERATIONS:,} of {PAPER_BATCH}."
    )


def _kind(model: str, title: str) -> Kind:
    def recipe(options: Mapping[str, Any]) -> dict[str, Any]:
        from cytovae.learn import train as trainings

        asked = {key: value for key, value in options.items() if key not in ("recipe", "model")}
        preset = trainings.preset(options.get("recipe", "paper"))
        return configs.to_dict(configs.from_dict(trainings.Recipe, {**preset, **asked, "model": model}))

    def train(screen: Screen | Pool, path: Path, recipe: dict[str, Any], run: Run) -> bool:
        from cytovae.learn import train as trainings

        return trainings.train(
            screen,
            path,
            configs.from_dict(trainings.Recipe, recipe),
            machine=trainings.Machine(run.device, run.devices, run.nodes, run.threads),
            resume=run.resume,
            overwrite=run.overwrite,
            checkpoint_every=run.checkpoint_every,
            pictures_every=run.pictures_every,
            tensorboard=run.tensorboard,
            progress=run.progress,
            say=run.say,
        )

    return Kind(title, recipe, train, load, limits, several=True)


AE = _kind("ae", "An autoencoder (AE)")
VAE = _kind("vae", "A variational autoencoder (VAE)")
VAE_PLUS = _kind("vae+", "A VAE+")
