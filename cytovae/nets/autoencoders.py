"""AE, VAE and VAE+: three networks, one training step (paper, section 4.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cytovae.config import PATCH_SIZE_PX
from cytovae.errors import ConfigError, did_you_mean
from cytovae.nets import blocks, losses


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a model is trained for.

    Parameters
    ----------
    beta : float
        Weight of the KL term.
    similarity : bool
        Whether the learned similarity of a discriminator is used.
    """

    beta: float
    similarity: bool


OBJECTIVES = {"ae": Objective(0.0, False), "vae": Objective(1.0, False), "vae+": Objective(2.0, True)}


def objective(model: str) -> Objective:
    """The objective of ``ae``, ``vae`` or ``vae+``.

    Raises
    ------
    ConfigError
        There is no such model.
    """
    try:
        return OBJECTIVES[model]
    except KeyError:
        raise ConfigError(
            f"there is no model {model!r}; it is one of {', '.join(OBJECTIVES)}{did_you_mean(model, OBJECTIVES)}"
        ) from None


class Networks(nn.Module):
    """Encoder, decoder and, for VAE+, discriminator.

    Parameters
    ----------
    channels : int
        Of the image.
    similarity : bool
        Whether there is a discriminator.
    """

    def __init__(self, channels: int = 3, similarity: bool = True) -> None:
        super().__init__()
        self.encoder = blocks.Encoder(channels)
        self.decoder = blocks.Decoder(channels)
        self.discriminator = blocks.Discriminator(channels) if similarity else None

    def parts(self) -> list[blocks.Encoder | blocks.Decoder | blocks.Discriminator]:
        """The networks there are: encoder, decoder, and the discriminator where there is one."""
        parts: list[blocks.Encoder | blocks.Decoder | blocks.Discriminator] = [self.encoder, self.decoder]
        return parts if self.discriminator is None else [*parts, self.discriminator]

    def norms(self) -> list[blocks.Norm]:
        """All batch norms: encoder's, decoder's, discriminator's."""
        return [norm for part in self.parts() for norm in part.norms()]

    def autoencoder_parameters(self) -> list[nn.Parameter]:
        """Of encoder and decoder: moved by pixel + similarity (+ KL, which reaches the encoder alone)."""
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Of the discriminator: moved by its cross-entropy alone."""
        return [] if self.discriminator is None else list(self.discriminator.parameters())

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all kernels."""
        for part in self.parts():
            blocks.initialise(part, generator)

    @torch.no_grad()
    def track(self, moments: Sequence[blocks.Moments]) -> None:
        """Move all running averages towards a step's moments."""
        for norm, m in zip(self.norms(), moments, strict=True):
            norm.track(m)


class Step(NamedTuple):
    """What one training step found, before any weight has moved.

    Parameters
    ----------
    terms : dict of str to () tensor
        ``pixel``, ``kl``, and with a discriminator ``similarity1`` ... (as deep as the schedule has come) and
        ``discriminator``; unweighted.
    autoencoder_gradients : list of tensor
        Of pixel + beta * KL + similarity, in the order of `Networks.autoencoder_parameters`.
    discriminator_gradients : list of tensor
        Of the cross-entropy, in the order of `Networks.discriminator_parameters`.
    moments : list of Moments
        In the order of `Networks.norms`.
    """

    terms: dict[str, Tensor]
    autoencoder_gradients: list[Tensor]
    discriminator_gradients: list[Tensor]
    moments: list[blocks.Moments]


def training_step(
    nets: Networks,
    b1: Tensor,
    b2: Tensor,
    noise: Tensor,
    beta: float,
    weights: Sequence[Tensor | float],
) -> Step:
    """Losses and gradients of one iteration, all from one forward pass.

    The three groups of weights each get the gradient of their own loss alone: encoder pixel + similarity + beta * KL,
    decoder pixel + similarity (the KL term does not reach it), discriminator its cross-entropy.

    Parameters
    ----------
    b1, b2 : (n, C, 68, 68) tensor
        Two independent mini-batches; `b2` is used by the discriminator alone.
    noise : (n, 256) tensor
        Standard normal.
    beta : float
        Weight of the KL term.
    weights : sequence of float or () tensor
        gamma_i of the similarity layers that are on; its length is how deep `b1` passes through the discriminator.
    """
    mean, logvar, encoder_moments = nets.encoder(b1)
    reconstruction, decoder_moments = nets.decoder(mean + torch.exp(0.5 * logvar) * noise)
    terms = {"pixel": losses.pixel_loss(b1, reconstruction), "kl": losses.kl_loss(mean, logvar)}
    total = terms["pixel"] + beta * terms["kl"] if beta else terms["pixel"]
    moments = [*encoder_moments, *decoder_moments]
    if nets.discriminator is None:
        return Step(terms, list(torch.autograd.grad(total, nets.autoencoder_parameters())), [], moments)

    n, n_values = len(b1), b1[0].numel()
    logits, hidden, balanced_moments = nets.discriminator(torch.cat([b2, reconstruction]))
    real, _ = nets.discriminator.hidden(b1, balanced_moments, depth=len(weights))
    similarities = [losses.similarity_loss(r, h[n:], n_values) for r, h in zip(real, hidden, strict=False)]
    for layer, (term, weight) in enumerate(zip(similarities, weights, strict=True), start=1):
        terms[f"similarity{layer}"] = term
        total = total + weight * term
    terms["discriminator"] = losses.discriminator_loss(logits[:n], logits[n:])
    return Step(
        terms,
        list(torch.autograd.grad(total, nets.autoencoder_parameters(), retain_graph=True)),
        list(torch.autograd.grad(terms["discriminator"], nets.discriminator_parameters())),
        [*moments, *balanced_moments],
    )


PATCH_SIZE = PATCH_SIZE_PX
