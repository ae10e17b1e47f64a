"""AE, VAE and VAE+: three networks, one training step (paper, section 4.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    patch_px : int
        Edge of a patch.
    decoder_margin_px, discriminator_margin_px : int
        See `blocks.Decoder` and `blocks.Discriminator`; 0 as in the paper.
    """

    def __init__(
        self,
        channels: int = 3,
        similarity: bool = True,
        patch_px: int = PATCH_SIZE_PX,
        decoder_margin_px: int = 0,
        discriminator_margin_px: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = blocks.Encoder(channels, patch_px)
        self.decoder = blocks.Decoder(channels, patch_px, decoder_margin_px)
        self.discriminator = blocks.Discriminator(channels, patch_px, discriminator_margin_px) if similarity else None

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


def channels_last(nets: Networks) -> None:
    """Lay the kernels out for channels-last convolutions; no number changes."""
    with torch.no_grad():
        for weight in blocks.kernels(nets):
            weight.data = weight.contiguous(memory_format=torch.channels_last)


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
    pixel_weights: Tensor | None = None,
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
    pixel_weights : (H, W) tensor, optional
        Weights of the pixels in the pixel term of the objective; the term that is returned has none.
    """
    mean, logvar, encoder_moments = nets.encoder(b1)
    reconstruction, decoder_moments = nets.decoder(mean + torch.exp(0.5 * logvar) * noise)
    terms = {"pixel": losses.pixel_loss(b1, reconstruction), "kl": losses.kl_loss(mean, logvar)}
    pixels = terms["pixel"] if pixel_weights is None else losses.pixel_loss(b1, reconstruction, pixel_weights)
    total = pixels + beta * terms["kl"] if beta else pixels
    moments = [*encoder_moments, *decoder_moments]
    if nets.discriminator is None:
        return Step(terms, list(torch.autograd.grad(total, nets.autoencoder_parameters())), [], moments)

    n, n_values = len(b1), b1[0].numel()
    logits, hidden, balanced_moments = nets.discriminator(torch.cat([b2, reconstruction]), n_fixed=n)
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


class Folded:
    """Encoder and decoder for use: batch norm folded into the kernels, phase kernels made once, nothing to train.

    It holds plain tensors that no call changes, so any number of threads may share one.

    Parameters
    ----------
    nets : Networks
        Its weights are copied.
    """

    def __init__(self, nets: Networks) -> None:
        with torch.no_grad():
            self.stem = [
                self._fold(weight, norm)
                for weight, norm in zip(nets.encoder.stem.kernels, nets.encoder.stem.norms, strict=True)
            ]
            head, offset = self._fold(nets.encoder.head, nets.encoder.norm)
            means = blocks.LATENT_SIZE  # the other half are log-variances
            self.head = head.permute(2, 3, 1, 0).reshape(-1, len(head))[:, :means].contiguous()  # (5*5*32, 256)
            self.head_offset = offset[:means].contiguous()

            weight, offset = self._fold(nets.decoder.kernels[0], nets.decoder.layer_norms[0])
            taps = weight.flip(2, 3).permute(1, 2, 3, 0)  # (256, 5, 5, 32)
            self.first = taps.reshape(len(taps), -1).contiguous()  # (256, 5*5*32)
            self.first_offset = offset.repeat(taps.shape[1] * taps.shape[2])
            self.start_px, self.padding = nets.decoder.start_px, nets.decoder.padding
            self.edge = nets.decoder.margin_px // 2  # of the last map, whose phases are still channels
            self.phases = []
            for index in (1, 2, 3):
                weight, offset = self._fold(nets.decoder.kernels[index], nets.decoder.layer_norms[index])
                wide = blocks.phase_kernel(weight).contiguous(memory_format=torch.channels_last)
                self.phases.append((wide, offset.repeat(4)))
            weight, self.out_offset = self._fold(nets.decoder.out, nets.decoder.out_norm)
            self.out = weight.flatten(1).T.contiguous()  # (32, C)

    @staticmethod
    def _fold(weight: Tensor, norm: blocks.Norm) -> tuple[Tensor, Tensor]:
        scale = norm.weight * torch.rsqrt(norm.running_var + blocks.EPSILON)
        folded = weight * scale[:, None, None, None]
        return folded.contiguous(memory_format=torch.channels_last), norm.bias - norm.running_mean * scale

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """Posterior means.

        Parameters
        ----------
        x : (n, C, 68, 68) tensor
            Each channel of each patch in [0, 1].

        Returns
        -------
        (n, 256) tensor
        """
        for weight, offset in self.stem:
            x = F.leaky_relu_(F.max_pool2d(F.conv2d(x, weight, offset), 2), blocks.SLOPE)  # 32, 14, 5
        return torch.addmm(self.head_offset, x.permute(0, 2, 3, 1).reshape(len(x), -1), self.head)

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        """Patches, as the network gives them (not clipped).

        Parameters
        ----------
        z : (n, 256) tensor

        Returns
        -------
        (n, C, 68, 68) tensor
        """
        rows = F.leaky_relu_(torch.addmm(self.first_offset, z, self.first), blocks.SLOPE)
        x = blocks.images_of(rows.view(-1, blocks.WIDTH), len(z), self.start_px, self.start_px)
        for index, (weight, offset) in enumerate(self.phases):
            if index:
                x = blocks.interleave(x, blocks.WIDTH)
            x = F.leaky_relu_(F.conv2d(x, weight, offset, padding=self.padding), blocks.SLOPE)  # (n, 4*32, h, h)
        x = blocks.cropped(x, self.edge)
        height, width = x.shape[2:]
        rows = x.permute(0, 2, 3, 1).reshape(-1, blocks.WIDTH)  # the phases are positions
        rows = F.leaky_relu_(torch.addmm(self.out_offset, rows, self.out), blocks.SLOPE)
        return blocks.interleave(blocks.images_of(rows, len(z), height, width), self.out.shape[1])
