"""A path as a figure of rows of images, and as an animation."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import schema
from cytovae.errors import ConfigError
from cytovae.explore.evidence import Evidence
from cytovae.explore.intervals import mean_interval
from cytovae.explore.paths import Path, PopulationPath
from cytovae.explore.render.colours import COLOURS, OVERLAID, Look, composite, difference, scale_bar
from cytovae.explore.render.drawing import INK, WARN, Drawing


@dataclass(frozen=True)
class StripRow:
    """One row of a strip.

    Parameters
    ----------
    label : str
    images : (k, H, W, C)
        Or (j, H, W, 3) uint8 with any number of them: pictures that are drawn as they are.
    captions : sequence of str
        Length k, under each image; a newline starts another line.
    warn : sequence of bool
        Length k or empty: captions to be set in the colour of a warning.
    columns : sequence of int
        Where each image stands; from the left where empty.
    """

    label: str
    images: npt.NDArray
    captions: Sequence[str] = ()
    warn: Sequence[bool] = ()
    columns: Sequence[int] = ()


def path_rows(
    path: Path,
    evidence: Evidence | None = None,
    nearest_images: npt.NDArray | None = None,
    end_images: npt.NDArray | None = None,
) -> list[StripRow]:
    """The rows that show a path: its decoded steps with cosines; the nearest real cells and its own ends where given.

    Parameters
    ----------
    path : Path
    evidence : Evidence, optional
    nearest_images : (k, H, W, C), optional
        The real patches of ``evidence.nearest_rows[:, 0]``, normalised.
    end_images : (2, H, W, C), optional
        The real patches of the start and the target, normalised.
    """
    captions = [
        f"{cosine:.2f} ({again:.2f})\n{name}"
        for cosine, again, name in zip(path.cosine, path.cosine_reencoded, path.captions, strict=True)
    ]
    rows = [StripRow("decoded\ncosine to the target:\nplanned\n(seen in the image)", path.frames, captions)]
    if evidence is not None and nearest_images is not None:
        under = [
            f"{schema.words(treatment)}\n{'unlike any' if off else ''}"
            for treatment, off in zip(evidence.nearest_treatments[:, 0], evidence.off_data, strict=True)
        ]
        label = "nearest real cell\n(unlike any: the step\nis like no real cell)"
        rows.append(StripRow(label, nearest_images, under, list(evidence.off_data)))
    if end_images is not None:
        names = [path.control_id, path.target_id]
        rows.append(StripRow("the cells at its ends\nas imaged", end_images, names, columns=(0, path.steps - 1)))
    return rows


def population_rows(path: PopulationPath, channels: Sequence[str]) -> list[StripRow]:
    """The rows that show a population path: the mean image at each step with the mean cosine; the mean difference."""
    mean, low, high = mean_interval(path.cosine)
    captions = [f"{m:.2f}\n{lo:.2f} to {hi:.2f}" for m, lo, hi in zip(mean, low, high, strict=True)]
    pictures, limit = difference(path.difference)
    return [
        StripRow(f"mean of {len(path.z)} pairs\ncosine, 95 % interval", path.frames.mean(axis=0), captions),
        StripRow(
            f"mean difference\nend - start\nblue -{limit:.2f}\nred +{limit:.2f}",
            pictures,
            [f"{c}\n " for c in channels],
        ),
    ]


def strip(
    rows: Sequence[StripRow],
    channels: Sequence[str],
    limits: npt.ArrayLike,
    look: str = Look.RGB,
    gamma: float = 1.0,
    pixel_size_um: float | None = None,
    title: str = "",
    zoom: int = 2,
    form: str = "png",
    record: dict[str, Any] | None = None,
    shown: Sequence[int] | None = None,
) -> bytes:
    """A figure: one image per step, rows under each other, captions, channel legend and scale bar.

    Parameters
    ----------
    rows : sequence of StripRow
        See `path_rows`. With the look ``grey`` each row is drawn once per channel.
    channels : sequence of str
    limits : (C, 2)
        The same for every image of the figure.
    zoom : int
        Screen pixels per image pixel.
    form : str
        ``png``, ``svg`` or ``pdf``; the last two keep text as text.
    shown : sequence of int, optional
        Channels to show; the first `OVERLAID`, with the look ``grey`` all, by default.
    record : dict, optional
        Provenance, written into the file.

    Returns
    -------
    bytes

    Raises
    ------
    ConfigError
        Unknown form or look, or no rows.
    """
    if form not in ("png", "svg", "pdf"):
        raise ConfigError(f"a strip is png, svg or pdf, not {form!r}")
    if not rows:
        raise ConfigError("a strip needs at least one row of images")
    drawing = Drawing()
    height, width = rows[0].images.shape[1:3]
    step_w, step_h, left, gap = width * zoom, height * zoom, 8, 4
    label_w = 148
    y = 8.0
    if title:
        drawing.text(left, y, title, 15)
        y += 24
    x_legend = left + drawing.text(left, y, "channels:", 12) + 8
    drawn = passes_of(channels, look, shown)
    for c in sum(drawn, ()):
        lo, hi = np.asarray(limits)[c]
        x_legend += (
            drawing.text(x_legend, y, f"{channels[c]} {lo:.2f}-{hi:.2f}", 12, _ink_of(look, c, len(channels))) + 14
        )
    drawing.text(x_legend, y, f"gamma {gamma:g}{_left_out(channels, drawn, shown)}", 12)
    y += 22
    bar_px, bar_label = scale_bar(pixel_size_um, width)
    first = True
    for row in rows:
        finished = row.images.dtype == np.uint8
        passes = drawn[:1] if finished else drawn
        for number, which in enumerate(passes):
            label = f"{row.label}\n{channels[which[0]]}" if look == "grey" and not finished else row.label
            for line, text in enumerate(label.split("\n")):
                drawing.text(left, y + 4 + 15 * line, text, 12)
            pixels = row.images if finished else composite(row.images, limits, look, gamma, which)
            columns = row.columns or range(len(pixels))
            for column, image in zip(columns, pixels, strict=True):
                x = left + label_w + column * (step_w + gap)
                drawing.image(x, y, step_w, step_h, image)
                if first:
                    bar_y = y + step_h - 8
                    drawing.scale_bar(x + 6, bar_y, bar_px * zoom, bar_label)
                    first = False
            y += step_h + gap
            if number == len(passes) - 1 and len(row.captions):
                captions = [_wrapped(caption, step_w // 7) for caption in row.captions]
                for number, (column, lines) in enumerate(zip(columns, captions, strict=True)):
                    centre = left + label_w + column * (step_w + gap) + step_w / 2
                    ink = WARN if len(row.warn) and row.warn[number] else INK
                    for line, text in enumerate(lines):
                        drawing.text(centre, y + 14 * line, text, 11, ink, centred=True)
                y += 14 * max(map(len, captions)) + 8
    n_columns = max(max(row.columns, default=len(row.images) - 1) + 1 for row in rows)
    drawing.width = max(drawing.width, left + label_w + n_columns * (step_w + gap) + left)
    drawing.height = y + 6
    return {"png": drawing.png, "svg": drawing.svg, "pdf": drawing.pdf}[form](record)


def gif(
    path: Path,
    channels: Sequence[str],
    limits: npt.ArrayLike,
    look: str = Look.RGB,
    gamma: float = 1.0,
    pixel_size_um: float | None = None,
    title: str = "",
    zoom: int = 4,
    step_ms: int = 250,
    ends: npt.NDArray | None = None,
    record: dict[str, Any] | None = None,
    shown: Sequence[int] | None = None,
) -> bytes:
    """An animation of a path, there and back, endless, with the step and its cosine under the image.

    With the look ``grey`` the channels stand side by side.

    Parameters
    ----------
    title : str
        Stands under every picture: what the path is.
    step_ms : int
        How long a step stays (ms); the ends stay four times as long.
    ends : (2, H, W, C), optional
        The real cells at the start and the target, normalised: the first and the last picture.
    shown : sequence of int, optional
        Channels to show, as in `strip`.
    record : dict, optional
        Provenance, written as the file's comment.
    """
    from PIL import Image

    bar_px, bar_label = scale_bar(pixel_size_um, path.frames.shape[2])
    passes = passes_of(channels, look, shown)
    images = path.frames if ends is None else np.concatenate([ends[:1], path.frames, ends[1:]])
    names = [
        f"step {step} of {path.steps - 1}   {name}   cosine {cosine:.2f}"
        for step, (name, cosine) in enumerate(zip(path.captions, path.cosine, strict=True))
    ]
    if ends is not None:
        names = [f"real cell {path.control_id}", *names, f"real cell {path.target_id}"]
    panels = [composite(images, limits, look, gamma, which) for which in passes]
    height, width = images.shape[1] * zoom, images.shape[2] * zoom
    pictures = []
    for step, name in enumerate(names):
        drawing = Drawing()
        for number, pixels in enumerate(panels):
            drawing.image(number * (width + 4), 0, width, height, pixels[step])
        drawing.scale_bar(8, height - 10, bar_px * zoom, bar_label)
        drawing.text(8, height + 4, title, 13)
        drawing.text(8, height + 22, name, 12)
        x = 8.0
        for c in sum(passes, ()):
            if look == Look.GREY:
                drawing.text(8 + passes.index((c,)) * (width + 4), height + 40, channels[c], 12)
            else:
                x += drawing.text(x, height + 40, channels[c], 12, _ink_of(look, c, len(channels))) + 10
        drawing.text(x, height + 40, _left_out(channels, passes, shown), 12)
        drawing.width = max(drawing.width, len(panels) * (width + 4) - 4)
        drawing.height = height + 60
        pictures.append(drawing)
    wide = max(drawing.width for drawing in pictures)
    for drawing in pictures:  # one size, else the legend jumps
        drawing.width = wide
    rasters = [drawing.raster() for drawing in pictures]
    # one palette for all, else the colours flicker
    sheet = Image.new("RGB", (rasters[0].width, rasters[0].height * len(rasters)))
    for number, raster in enumerate(rasters):
        sheet.paste(raster, (0, number * raster.height))
    inks = [INK, *(_ink_of(look, c, len(channels)) for c in sum(passes, ()))]
    palette = sheet.quantize(256 - len(inks), method=Image.Quantize.MEDIANCUT)
    # words are too few pixels for the cut to see their colours
    palette.putpalette((palette.getpalette() or [])[: 3 * (256 - len(inks))] + [v for ink in inks for v in ink[:3]])
    last = len(rasters) - 1
    round_trip = list(range(last + 1)) + list(range(last - 1, 0, -1))
    durations = [step_ms * (4 if s in (0, last) else 1) for s in round_trip]
    frames = [rasters[s].quantize(palette=palette, dither=Image.Dither.NONE) for s in round_trip]
    out = io.BytesIO()
    frames[0].save(
        out,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        comment=json.dumps(record or {}).encode(),
    )
    return out.getvalue()


def passes_of(channels: Sequence[str], look: str, shown: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """Which channels each picture of an image shows: one alone where they are grey, else several together."""
    if look == Look.GREY:
        return [(c,) for c in (range(len(channels)) if shown is None else shown)]
    return [tuple(range(len(channels)))[:OVERLAID] if shown is None else tuple(shown)]


def _left_out(channels: Sequence[str], passes: list[tuple[int, ...]], shown: Sequence[int] | None) -> str:
    """A word on the channels that no picture shows."""
    lost = [name for c, name in enumerate(channels) if c not in sum(passes, ())]
    way = "" if shown is not None else "; the look grey shows every channel"
    return f"   (not shown: {', '.join(lost)}{way})" if lost else ""


def _ink_of(look: str, channel: int, of: int) -> tuple[int, ...]:
    """The colour of one of so many channels, dark enough to be read on white."""
    return (96, 96, 96) if look == "grey" or of == 1 else tuple(int(255 * v * 0.8) for v in COLOURS[look][channel])


def _wrapped(text: str, n: int) -> list[str]:
    """The lines of a caption, none longer than n characters (at least 8): broken at a space, ``_`` or ``-``."""
    n, lines = max(n, 8), []
    for rest in text.replace(" µM", "\u00a0µM").split("\n"):  # a dose stays with its unit
        while len(rest) > n:
            at = max(rest.rfind(" ", 0, n + 1), rest.rfind("_", 0, n), rest.rfind("-", 0, n)) + 1 or n
            lines.append(rest[:at].rstrip())
            rest = rest[at:]
        lines.append(rest)
    return [line.replace("\u00a0", " ") for line in lines]
