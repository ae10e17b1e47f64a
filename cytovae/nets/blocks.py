"""Encoder, decoder and discriminator, layer by layer as in the paper's section 3.4.

A network here has no mode. Every forward pass is told which batch-norm moments to use, or takes them from its batch,
and hands back those it used; whoever trains decides which of them enter the running averages. So the rule of the
discriminator (its moments come from the balanced batch alone, and another batch passes through with those same
moments) is one argument, and gradients flow through the moments like through everything else.

Tensors are ``(n, C, H, W)`` in channels-last memory. The same numbers come from `cytovae.nets.plain`, the slow and
short way: read it first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytovae.config import PATCH_SIZE_PX
from cytovae.errors import ConfigError

KERNEL_PX = 5
SLOPE = 0.01
EPSILON = 1e-5
WIDTH = 32
LATENT_SIZE = 256
DISCRIMINATOR_WIDTH = 64
AVERAGE_COEFFICIENT = 0.9


def stem_size(patch_px: int) -> int:
    """Edge of the map that three layers of convolution and pooling leave of a patch: 5 for 68 px.

    Raises
    ------
    ConfigError
        The layers do not divide the patch evenly.
    """
    size, rest = divmod(patch_px - 28, 8)
    if rest or size < 1:
        raise ConfigError(
            f"the networks take patches of 36, 44, 52, 60, 68, 76 ... px (28 more than a multiple of 8), not {patch_px}"
        )
    return size


class Moments(NamedTuple):
    """Mean and (biased) variance of each channel over a batch.

    Parameters
    ----------
    mean, var : (C,) tensor
    """

    mean: Tensor
    var: Tensor


def pooled(parts: Sequence[Moments]) -> Moments:
    """The moments of several batches of equal size taken together.

    Parameters
    ----------
    parts : sequence of Moments
    """
    means = torch.stack([m.mean for m in parts])
    within = torch.stack([m.var for m in parts]).mean(dim=0)
    return Moments(means.mean(dim=0), within + means.var(dim=0, unbiased=False))


Reduce = Callable[[Tensor], Tensor]
"""Averages a tensor over the processes that share a batch; differentiable."""


class _Moments(torch.autograd.Function):
    """Mean and variance of rows; the gradient in one pass instead of autograd's seven."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        mean = rows.mean(dim=0)
        var = (rows - mean).square_().mean(dim=0)
        ctx.save_for_backward(rows, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, mean_gradient: Tensor, var_gradient: Tensor) -> Tensor:
        rows, mean = ctx.saved_tensors
        slope = var_gradient * (2.0 / len(rows))
        return torch.addcmul(mean_gradient / len(rows) - mean * slope, rows, slope)


class Norm(nn.Module):
    """Batch normalisation with the moments as an argument.

    Parameters
    ----------
    channels : int
        C.
    """

    running_mean: Tensor
    running_var: Tensor
    reduce: Reduce | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.reduce = None

    def running(self) -> Moments:
        """The moving averages: what inference normalises with."""
        return Moments(self.running_mean, self.running_var)

    def moments(self, rows: Tensor) -> Moments:
        """The moments of a batch.

        Parameters
        ----------
        rows : (r, C) tensor
            Every position of every image is a row.
        """
        if rows.dtype in (torch.bfloat16, torch.float16):
            rows = rows.float()
        if self.reduce is None:
            return Moments(*_Moments.apply(rows))  # type: ignore[no-untyped-call]
        mean = self.reduce(rows.mean(dim=0))
        return Moments(mean, self.reduce((rows - mean).square().mean(dim=0)))

    def forward(self, rows: Tensor, moments: Moments | None) -> tuple[Tensor, Moments]:
        """Rows normalised by `moments`, or by their own where None; and the moments used.

        Parameters
        ----------
        rows : (r, C) tensor
        """
        used = self.moments(rows) if moments is None else moments
        scale = self.weight * torch.rsqrt(used.var + EPSILON)  # (C,)
        return torch.addcmul(self.bias - used.mean * scale, rows, scale), used  # (r, C)

    @torch.no_grad()
    def track(self, moments: Moments) -> None:
        """Move the running averages towards `moments` (coefficient 0.9)."""
        self.running_mean.lerp_(moments.mean.detach(), 1 - AVERAGE_COEFFICIENT)
        self.running_var.lerp_(moments.var.detach(), 1 - AVERAGE_COEFFICIENT)


def _at(moments: Sequence[Moments] | None, index: int) -> Moments | None:
    return None if moments is None else moments[index]


def kernel(c_in: int, c_out: int, size: int) -> nn.Parameter:
    """Room for a convolution kernel, ``(c_out, c_in, size, size)``; `initialise` draws it."""
    return nn.Parameter(torch.empty(c_out, c_in, size, size))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every kernel of a network: normal, mean 0, s.d. sqrt(2 / (k k c_in + c_out)).

    Parameters
    ----------
    module : Module
    generator : Generator
        Of the CPU.
    """
    with torch.no_grad():
        for weight in kernels(module):
            c_out, c_in, height, width = weight.shape
            weight.normal_(0.0, math.sqrt(2.0 / (height * width * c_in + c_out)), generator=generator)


def kernels(module: nn.Module) -> list[nn.Parameter]:
    """The convolution kernels of a network: what weight decay acts on (not scales, not offsets)."""
    return [p for p in module.parameters() if p.dim() == 4]


def rows_of(images: Tensor) -> Tensor:
    """``(n, C, H, W)`` as ``(n * H * W, C)``; a view in channels-last memory."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def images_of(rows: Tensor, n: int, height: int, width: int) -> Tensor:
    """``(n * H * W, C)`` as ``(n, C, H, W)`` in channels-last memory; a view."""
    return rows.view(n, height, width, -1).permute(0, 3, 1, 2)


def phase_kernel(weight: Tensor) -> Tensor:
    """The kernel that does nearest x2 up-sampling and a 5 x 5 convolution in one go, on the small map.

    An output pixel of even row sees the small map's rows through taps (0, 1 | 2, 3 | 4), one of odd row through
    (0 | 1, 2 | 3, 4); the same for columns. So each of the four phases is a 3 x 3 convolution whose weights are sums of
    the 5 x 5 ones: 36 multiplications instead of 100, and the same numbers.

    Parameters
    ----------
    weight : (O, I, 5, 5) tensor

    Returns
    -------
    (4 * O, I, 3, 3) tensor
        Phase-major: even-even, even-odd, odd-even, odd-odd (row, column).
    """
    sums = weight.new_tensor(
        [
            [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]],
            [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]],
        ]
    )  # (phase, small tap, tap)
    o, i, k, _ = weight.shape
    wide = weight.reshape(o * i * k, k) @ sums.reshape(6, k).T  # (O*I*5, 2*3): over columns
    wide = wide.view(o * i, k, 6).transpose(1, 2).reshape(o * i * 6, k) @ sums.reshape(6, k).T  # over rows
    parts = wide.view(o, i, 2, 3, 2, 3)  # (O, I, column phase, column tap, row phase, row tap)
    return parts.permute(4, 2, 0, 1, 5, 3).reshape(4 * o, i, 3, 3)


def interleave(phases: Tensor, channels: int) -> Tensor:
    """Four phases woven into the large map.

    Parameters
    ----------
    phases : (n, 4 * C, h, w) tensor
        Phase-major channels.

    Returns
    -------
    (n, C, 2 h, 2 w) tensor
    """
    n, _, height, width = phases.shape
    woven = phases.permute(0, 2, 3, 1).reshape(n, height, width, 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return woven.reshape(n, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def cropped(x: Tensor, edge: int) -> Tensor:
    """A map without its outer `edge` rows and columns; a view.

    Parameters
    ----------
    x : (n, C, h, w) tensor
    """
    return x[:, :, edge : x.shape[2] - edge, edge : x.shape[3] - edge]


def pair_kernel(weight: Tensor) -> Tensor:
    """The kernel of a 5 x 5 convolution between maps whose 2 x 2 squares are channels.

    Parameters
    ----------
    weight : (O, I, 5, 5) tensor

    Returns
    -------
    (4 * O, 4 * I, 3, 3) tensor
        Phase-major on both sides.
    """
    choose = weight.new_zeros(2, 3, 2, 5)  # (phase out, tap, phase in, 5 x 5 tap)
    for out in range(2):
        for tap in range(5):
            choose[out, (out + tap) // 2, (out + tap) % 2, tap] = 1
    o, i = weight.shape[:2]
    wide = torch.einsum("psak,qtbl,oikl->pqoabist", choose, choose, weight)
    return wide.reshape(4 * o, 4 * i, 3, 3)


def squares(x: Tensor) -> Tensor:
    """The 2 x 2 squares of a map as channels, phase-major: `interleave` undone.

    Parameters
    ----------
    x : (n, C, 2 h, 2 w) tensor

    Returns
    -------
    (n, 4 * C, h, w) tensor
    """
    n, channels, height, width = x.shape
    parts = x.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, height // 2, width // 2, 4 * channels).permute(0, 3, 1, 2)


class _TowardsImages(torch.autograd.Function):
    """The way of the gradient from a 5 x 5 convolution back to its images; in the forward direction nothing.

    The gradient towards few channels is what convolution libraries are slowest at (a fifth of the machine's peak);
    between maps whose 2 x 2 squares are channels the same numbers come out in less than half the time. The first
    `n_fixed` images get none.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, n_fixed: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.n_fixed = x.shape, n_fixed
        n, _, height, width = x.shape
        return x.new_zeros(1).expand(n, len(weight), height - KERNEL_PX + 1, width - KERNEL_PX + 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        n, channels, height, width = ctx.shape
        shape = (n - ctx.n_fixed, 4 * channels, height // 2, width // 2)
        like = gradient.new_empty(shape).contiguous(memory_format=torch.channels_last)
        wide = pair_kernel(weight).contiguous(memory_format=torch.channels_last)
        options = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, False, False])
        moved = squares(gradient[ctx.n_fixed :])
        part, _, _ = torch.ops.aten.convolution_backward(moved, like, wide, None, *options)
        to_images = gradient.new_zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
        to_images[ctx.n_fixed :] = interleave(part, channels)
        return to_images, None, None


class _Join(torch.autograd.Function):
    """The first of two tensors; the gradient goes to both. Costs nothing, and autograd follows only ways it needs."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return first.view_as(first)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient


def image_convolution(x: Tensor, weight: Tensor, n_fixed: int = 0) -> Tensor:
    """A 5 x 5 convolution of images.

    Parameters
    ----------
    x : (n, C, H, W) tensor
        H and W even.
    weight : (O, C, 5, 5) tensor
    n_fixed : int
        The first so many images are data that no gradient needs to reach.

    Returns
    -------
    (n, O, H - 4, W - 4) tensor
    """
    if not x.requires_grad:
        return F.conv2d(x, weight)
    back = _TowardsImages.apply(x, weight.detach(), n_fixed)  # type: ignore[no-untyped-call]
    joined: Tensor = _Join.apply(F.conv2d(x.detach(), weight), back)  # type: ignore[no-untyped-call]
    return joined


class Stem(nn.Module):
    """Layers 1-3 of encoder and discriminator: conv 5 x 5, batch norm, max-pool 2, leaky ReLU.

    Parameters
    ----------
    channels : int
        Of the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kernels = cast(
            "list[nn.Parameter]", nn.ParameterList(kernel(c, WIDTH, KERNEL_PX) for c in (channels, WIDTH, WIDTH))
        )
        self.norms = cast("list[Norm]", nn.ModuleList(Norm(WIDTH) for _ in range(3)))

    def layer(self, index: int, x: Tensor, moments: Moments | None, n_fixed: int = 0) -> tuple[Tensor, Moments]:
        """One layer; sizes go 68 -> 32 -> 14 -> 5 over the three.

        The first `n_fixed` images are data that no gradient needs to reach.
        """
        norm = self.norms[index]
        # Pooling the raw map and normalising the quarter that is left is the same, given that the scale is not
        # negative: so a negative one moves its sign into the kernel.
        sign = torch.where(norm.weight.detach() < 0, -1.0, 1.0)  # (32,)
        weight = self.kernels[index] * sign[:, None, None, None]
        x = F.conv2d(x, weight) if index else image_convolution(x, weight, n_fixed)  # (n, 32, H-4, W-4)
        if moments is None:
            used = norm.moments(rows_of(x))
            moments = Moments(used.mean * sign, used.var)
        pooled = F.max_pool2d(x, 2)
        n, _, height, width = pooled.shape
        scale = norm.weight * sign * torch.rsqrt(moments.var + EPSILON)
        offset = norm.bias - moments.mean * sign * scale
        rows = torch.addcmul(offset, rows_of(pooled), scale)
        return images_of(F.leaky_relu(rows, SLOPE), n, height, width), moments


class Encoder(nn.Module):
    """Patches to the posterior's means and log-variances.

    Parameters
    ----------
    channels : int
        Of the image.
    patch_px : int
        Edge of a patch.
    """

    def __init__(self, channels: int = 3, patch_px: int = PATCH_SIZE_PX) -> None:
        super().__init__()
        self.stem = Stem(channels)
        self.head = kernel(WIDTH, 2 * LATENT_SIZE, stem_size(patch_px))
        self.norm = Norm(2 * LATENT_SIZE)

    def norms(self) -> list[Norm]:
        """Its batch norms, in the order of the layers."""
        return [*self.stem.norms, self.norm]

    def forward(self, x: Tensor, moments: Sequence[Moments] | None = None) -> tuple[Tensor, Tensor, list[Moments]]:
        """Means and log-variances.

        Parameters
        ----------
        x : (n, C, 68, 68) tensor
            Each channel of each patch in [0, 1].
        moments : sequence of 4 Moments, optional
            To normalise with; the batch's own where None.

        Returns
        -------
        tuple of ((n, 256) tensor, (n, 256) tensor, list of Moments)
        """
        used = []
        for index in range(3):
            x, m = self.stem.layer(index, x, _at(moments, index))
            used.append(m)
        flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # (n, 5*5*32)
        h = flat @ self.head.permute(2, 3, 1, 0).reshape(flat.shape[1], -1)  # (n, 512): the 5x5 conv of a 5x5 map
        h, m = self.norm(h, _at(moments, 3))
        return h[:, :LATENT_SIZE], h[:, LATENT_SIZE:], [*used, m]


class Decoder(nn.Module):
    """Embeddings to patches.

    The paper's decoder (`margin_px` 0) pads every layer by 4 px of zeros: the picture grows at its edges, and its outer
    pixels are made of zeros for the most part. With a margin the first layer draws a larger map, every other layer
    keeps its size, and the outer pixels are cut off in the end.

    Parameters
    ----------
    channels : int
        Of the image.
    patch_px : int
        Edge of a patch.
    margin_px : int
        How much more is drawn on each side and cut off: 0 as in the paper, or 2, 6, 10, ...

    Raises
    ------
    ConfigError
        Patch or margin do not go through the layers evenly.
    """

    def __init__(self, channels: int = 3, patch_px: int = PATCH_SIZE_PX, margin_px: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.margin_px = margin_px
        self.start_px = stem_size(patch_px)  # edge of the first map
        if margin_px:
            if margin_px < 0 or margin_px % 4 != 2:
                raise ConfigError(f"the decoder's margin is 0 (the paper's), 2, 6, 10, ... px, not {margin_px}")
            self.start_px = (patch_px + 2 * margin_px) // 8
        self.kernels = cast(
            "list[nn.Parameter]",
            nn.ParameterList(
                [kernel(LATENT_SIZE, WIDTH, self.start_px), *(kernel(WIDTH, WIDTH, KERNEL_PX) for _ in range(3))]
            ),
        )
        self.out = kernel(WIDTH, channels, 1)
        self.layer_norms = cast("list[Norm]", nn.ModuleList(Norm(WIDTH) for _ in range(4)))
        self.out_norm = Norm(channels)

    @property
    def padding(self) -> int:
        """Of the layers after the first, in pixels of the map before up-sampling."""
        return 1 if self.margin_px else 2

    def norms(self) -> list[Norm]:
        """Its batch norms, in the order of the layers."""
        return [*self.layer_norms, self.out_norm]

    def forward(self, z: Tensor, moments: Sequence[Moments] | None = None) -> tuple[Tensor, list[Moments]]:
        """Patches.

        Parameters
        ----------
        z : (n, 256) tensor
        moments : sequence of 5 Moments, optional
            To normalise with; the batch's own where None.

        Returns
        -------
        tuple of ((n, C, H, W) tensor, list of Moments)
        """
        n, used = len(z), []
        first = self.kernels[0]
        taps = first.flip(2, 3).permute(1, 2, 3, 0).reshape(LATENT_SIZE, -1)  # a padded 1x1 map: one product
        rows, m = self.layer_norms[0]((z @ taps).view(-1, WIDTH), _at(moments, 0))  # (n*5*5, 32)
        used.append(m)
        x = images_of(F.leaky_relu(rows, SLOPE), n, self.start_px, self.start_px)  # (n, 32, 5, 5)
        for index in (1, 2, 3):
            if index > 1:
                x = interleave(x, WIDTH)  # 14, 32; with a margin of 6: 20, 40
            x = F.conv2d(x, phase_kernel(self.kernels[index]), padding=self.padding)  # (n, 4*32, 7 | 16 | 34, same)
            height, width = x.shape[2:]
            rows = x.permute(0, 2, 3, 1).reshape(-1, WIDTH)  # (n*h*w*4, 32): the phases are positions
            rows, m = self.layer_norms[index](rows, _at(moments, index))
            used.append(m)
            rows = F.leaky_relu(rows, SLOPE)
            x = images_of(rows, n, height, width)
        if self.margin_px:
            x = cropped(x, self.margin_px // 2)
            height, width = x.shape[2:]
            rows = x.permute(0, 2, 3, 1).reshape(-1, WIDTH)
        rows, m = self.out_norm(rows @ self.out.view(self.channels, WIDTH).T, _at(moments, 4))
        used.append(m)
        return interleave(images_of(F.leaky_relu(rows, SLOPE), n, height, width), self.channels), used


class Discriminator(nn.Module):
    """Patches to the logit of being real; its hidden activations are the learned similarity.

    Parameters
    ----------
    channels : int
        Of the image.
    patch_px : int
        Edge of a patch.
    margin_px : int
        Reflected pixels around every patch it sees, so that those at the edge count as much as those inside: 0 as in
        the paper, or a multiple of 4.

    Raises
    ------
    ConfigError
        Patch or margin do not go through the layers evenly.
    """

    def __init__(self, channels: int = 3, patch_px: int = PATCH_SIZE_PX, margin_px: int = 0) -> None:
        super().__init__()
        if margin_px < 0 or margin_px % 4:
            raise ConfigError(f"the discriminator's margin is 0 (the paper's) or a multiple of 4 px, not {margin_px}")
        self.margin_px = margin_px
        self.stem = Stem(channels)
        self.dense = kernel(WIDTH, DISCRIMINATOR_WIDTH, stem_size(patch_px + 2 * margin_px))
        self.dense_norm = Norm(DISCRIMINATOR_WIDTH)
        self.out = kernel(DISCRIMINATOR_WIDTH, 1, 1)
        self.out_norm = Norm(1)

    def norms(self) -> list[Norm]:
        """Its batch norms, in the order of the layers."""
        return [*self.stem.norms, self.dense_norm, self.out_norm]

    def hidden(
        self, x: Tensor, moments: Sequence[Moments] | None = None, depth: int = 4, n_fixed: int = 0
    ) -> tuple[list[Tensor], list[Moments]]:
        """The activations D_1 ... D_depth.

        Parameters
        ----------
        x : (n, C, 68, 68) tensor
        moments : sequence of Moments, optional
            To normalise with; the batch's own where None.
        depth : int
            How many layers to run, 0 to 4.
        n_fixed : int
            The first so many images are data that no gradient needs to reach.

        Returns
        -------
        tuple of (list of tensors, list of Moments)
        """
        layers: list[Tensor] = []
        used: list[Moments] = []
        if self.margin_px:
            x = F.pad(x, (self.margin_px,) * 4, mode="reflect")
        for index in range(min(depth, 3)):
            x, m = self.stem.layer(index, x, _at(moments, index), n_fixed)
            layers.append(x)
            used.append(m)
        if depth == 4:
            flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)
            h = flat @ self.dense.permute(2, 3, 1, 0).reshape(flat.shape[1], -1)  # (n, 64)
            h, m = self.dense_norm(h, _at(moments, 3))
            layers.append(F.leaky_relu(h, SLOPE))
            used.append(m)
        return layers, used

    def forward(
        self, x: Tensor, moments: Sequence[Moments] | None = None, n_fixed: int = 0
    ) -> tuple[Tensor, list[Tensor], list[Moments]]:
        """Logits, hidden activations and moments.

        Parameters
        ----------
        x : (n, C, 68, 68) tensor
        moments : sequence of 5 Moments, optional
            To normalise with; the batch's own where None.
        n_fixed : int
            The first so many images are data that no gradient needs to reach.

        Returns
        -------
        tuple of ((n,) tensor, list of 4 tensors, list of 5 Moments)
        """
        layers, used = self.hidden(x, moments, n_fixed=n_fixed)
        logits, m = self.out_norm(layers[3] @ self.out.view(1, -1).T, _at(moments, 4))
        return logits[:, 0], layers, [*used, m]
