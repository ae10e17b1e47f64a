"""Pixels made visible: composites, strips, animations and tables of a path, as bytes and plain values.

Nothing here writes a file. Contrast limits are explicit numbers shared by all images that are compared; a scale bar is
in um only where the pixel size is known, else in px.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae.errors import ConfigError
from cytovae.explore.evidence import OFF_DATA_PERCENTILE, Evidence
from cytovae.explore.paths import Path, PopulationPath, mean_interval

Limits = npt.NDArray[np.float64]
"""(C, 2): per channel the values shown as black and as full colour."""

LOOKS = ("rgb", "mgc", "grey")
COLOURS = {
    "rgb": ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)),
    "mgc": ((1, 0, 1), (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 0.5, 0), (0.6, 0.6, 1)),
}
"""Red-green-blue; and magenta-green-cyan, which more readers can tell apart. Further channels get further colours."""
OVERLAID = 3
"""So many channels are laid over each other where none are named: more add up to white."""

PROVENANCE = "Metadata_Provenance"
_INK, _PAPER, _WARN = (32, 32, 32), (255, 255, 255), (176, 48, 0)


def shared_limits(images: npt.NDArray, low: float = 0.5, high: float = 99.8) -> Limits:
    """Contrast limits for a set of images: two percentiles of each channel over all of them.

    Parameters
    ----------
    images : (..., C)
    low, high : float
        Percentiles.

    Returns
    -------
    (C, 2) float64
        A channel without contrast gets limits one apart, so it shows black.
    """
    flat = np.asarray(images, dtype=np.float64).reshape(-1, np.shape(images)[-1])
    limits = np.maximum(np.percentile(flat, [low, high], axis=0).T, 0.0)  # a decoder may give less than nothing
    flatline = limits[:, 1] - limits[:, 0] < 1e-9
    limits[flatline, 1] = limits[flatline, 0] + 1.0
    return np.asarray(limits)


def composite(
    images: npt.NDArray,
    limits: npt.ArrayLike,
    look: str = "rgb",
    gamma: float = 1.0,
    shown: Sequence[int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Channels laid over each other in colour.

    Parameters
    ----------
    images : (..., H, W, C)
    limits : (C, 2)
        See `shared_limits`.
    look : str
        ``rgb``, ``mgc`` (magenta, green, cyan) or ``grey`` (the mean of the channels shown); images of one channel are
        grey in every look.
    gamma : float
        The scaled value is raised to this power: below 1 brightens the dark parts.
    shown : sequence of int, optional
        Channels to show; the first `OVERLAID` by default.

    Returns
    -------
    (..., H, W, 3) uint8

    Raises
    ------
    ConfigError
        Unknown look, gamma or limits that cannot be, no such channel, or more channels than there are colours.
    """
    images, limits = np.asarray(images), np.asarray(limits, dtype=np.float64)
    n = images.shape[-1]
    shown = list(range(min(n, OVERLAID))) if shown is None else list(shown)
    if look not in LOOKS:
        raise ConfigError(f"unknown look {look!r}; choose {', '.join(LOOKS)}")
    if not 0.05 <= gamma <= 20:
        raise ConfigError(f"gamma lies between 0.05 and 20, not {gamma:g}")
    if limits.shape != (n, 2) or not (limits[:, 1] > limits[:, 0]).all():
        raise ConfigError(f"contrast limits are a (black, full) pair with black < full for each of {n} channels")
    if any(not 0 <= c < n for c in shown):
        raise ConfigError(f"there are channels 0 to {n - 1}, not {shown}")
    if look != "grey" and shown and max(shown) >= len(COLOURS[look]):
        raise ConfigError(f"the look {look!r} has colours for {len(COLOURS[look])} channels; show fewer, or use 'grey'")
    scaled = (images[..., shown] - limits[shown, 0]) / (limits[shown, 1] - limits[shown, 0])
    scaled = np.clip(scaled, 0.0, 1.0) ** gamma
    if look == "grey" or n == 1:
        mean = scaled.mean(axis=-1, keepdims=True) if shown else np.zeros((*images.shape[:-1], 1))
        out = np.repeat(mean, 3, axis=-1)
    else:
        out = scaled @ np.array([COLOURS[look][c] for c in shown], dtype=np.float64).reshape(len(shown), 3)
    return np.asarray(np.rint(np.clip(out, 0.0, 1.0) * 255), dtype=np.uint8)


def scale_bar(pixel_size_um: float | None, width_px: int) -> tuple[float, str]:
    """A round scale bar of at most 40 % of an image's width.

    Returns
    -------
    tuple of (float, str)
        Length in px, and its label: in um if the pixel size is known, else in px, never a guess.

    Examples
    --------
    >>> scale_bar(0.5, 68), scale_bar(None, 68)
    ((20.0, '10 µm'), (20.0, '20 px'))
    """
    room = 0.4 * width_px * (pixel_size_um or 1.0)
    power = 10.0 ** np.floor(np.log10(room))
    size = next(s * power for s in (5.0, 2.0, 1.0) if s * power <= room)
    return float(size / (pixel_size_um or 1.0)), f"{size:g} {'µm' if pixel_size_um else 'px'}"


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
    captions = []
    for step in range(path.steps):
        name = path.labels[step] if path.labels else f"{path.n_features[step]} features"
        captions.append(f"{path.cosine[step]:.2f} ({path.cosine_reencoded[step]:.2f})\n{name}")
    rows = [StripRow("decoded\ncosine (re-encoded)", path.frames, captions)]
    if evidence is not None and nearest_images is not None:
        under = [
            f"{treatment}\n{'off data, ' if off else ''}p{percentile:.0f}"
            for treatment, off, percentile in zip(
                evidence.nearest_treatments[:, 0], evidence.off_data, evidence.support_percentile, strict=True
            )
        ]
        rows.append(StripRow("nearest real cell\nsupport percentile", nearest_images, under, list(evidence.off_data)))
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


def difference(image: npt.NDArray) -> tuple[npt.NDArray[np.uint8], float]:
    """A difference image, each channel from blue (less) over white to red (more).

    Parameters
    ----------
    image : (H, W, C)
        Of a `cytovae.explore.paths.PopulationPath`.

    Returns
    -------
    tuple of ((C, H, W, 3) uint8, float)
        Pictures, and the difference shown in full colour; the same for all channels.
    """
    limit = max(float(np.abs(image).max()), 1e-6)
    share = np.moveaxis(np.asarray(image, dtype=np.float64), -1, 0)[..., None] / limit  # (C, H, W, 1)
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    colour = np.where(share > 0, red, blue)
    return np.rint(255 + np.abs(share) * (colour - 255)).astype(np.uint8), limit


def strip(
    rows: Sequence[StripRow],
    channels: Sequence[str],
    limits: npt.ArrayLike,
    look: str = "rgb",
    gamma: float = 1.0,
    pixel_size_um: float | None = None,
    title: str = "",
    zoom: int = 2,
    form: str = "png",
    record: dict[str, Any] | None = None,
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
        ``png`` or ``svg``; the SVG keeps text as text.
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
    if form not in ("png", "svg"):
        raise ConfigError(f"a strip is png or svg, not {form!r}")
    if not rows:
        raise ConfigError("a strip needs at least one row of images")
    drawing = _Drawing()
    height, width = rows[0].images.shape[1:3]
    step_w, step_h, left, gap = width * zoom, height * zoom, 8, 4
    label_w = 148
    y = 8.0
    if title:
        drawing.text(left, y, title, 15)
        y += 24
    x_legend = left + drawing.text(left, y, "channels:", 12) + 8
    shown = _passes(channels, look)
    for c in sum(shown, ()):
        lo, hi = np.asarray(limits)[c]
        x_legend += (
            drawing.text(x_legend, y, f"{channels[c]} {lo:.2f}-{hi:.2f}", 12, _ink_of(look, c, len(channels))) + 14
        )
    drawing.text(x_legend, y, f"gamma {gamma:g}{_left_out(channels, shown)}", 12)
    y += 22
    bar_px, bar_label = scale_bar(pixel_size_um, width)
    first = True
    for row in rows:
        finished = row.images.dtype == np.uint8
        passes = shown[:1] if finished else shown
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
                lines = max(c.count("\n") + 1 for c in row.captions)
                for number, (column, caption) in enumerate(zip(columns, row.captions, strict=True)):
                    centre = left + label_w + column * (step_w + gap) + step_w / 2
                    ink = _WARN if len(row.warn) and row.warn[number] else _INK
                    for line, text in enumerate(caption.split("\n")):
                        drawing.text(centre, y + 14 * line, _short(text, step_w // 7), 11, ink, centred=True)
                y += 14 * lines + 8
    drawing.width = max(drawing.width, left + label_w + len(rows[0].images) * (step_w + gap) + left)
    drawing.height = y + 6
    return drawing.png(record) if form == "png" else drawing.svg(record)


def gif(
    path: Path,
    channels: Sequence[str],
    limits: npt.ArrayLike,
    look: str = "rgb",
    gamma: float = 1.0,
    pixel_size_um: float | None = None,
    zoom: int = 4,
    step_ms: int = 250,
    record: dict[str, Any] | None = None,
) -> bytes:
    """An animation of a path, there and back, endless, with the step and its cosine under the image.

    With the look ``grey`` the channels stand side by side.

    Parameters
    ----------
    step_ms : int
        How long a step stays (ms); the ends stay four times as long.
    record : dict, optional
        Provenance, written as the file's comment.
    """
    from PIL import Image

    bar_px, bar_label = scale_bar(pixel_size_um, path.frames.shape[2])
    passes = _passes(channels, look)
    panels = [composite(path.frames, limits, look, gamma, which) for which in passes]
    height, width = path.frames.shape[1] * zoom, path.frames.shape[2] * zoom
    pictures = []
    for step in range(path.steps):
        drawing = _Drawing()
        for number, pixels in enumerate(panels):
            drawing.image(number * (width + 4), 0, width, height, pixels[step])
        drawing.scale_bar(8, height - 10, bar_px * zoom, bar_label)
        drawing.text(8, height + 4, f"step {step} of {path.steps - 1}   cosine {path.cosine[step]:.2f}", 13)
        x = 8.0
        for c in sum(passes, ()):
            if look == "grey":
                drawing.text(8 + c * (width + 4), height + 22, channels[c], 12)
            else:
                x += drawing.text(x, height + 22, channels[c], 12, _ink_of(look, c, len(channels))) + 10
        drawing.text(x, height + 22, _left_out(channels, passes), 12)
        drawing.width = max(drawing.width, len(panels) * (width + 4) - 4)
        drawing.height = height + 42
        pictures.append(drawing.raster())
    round_trip = list(range(path.steps)) + list(range(path.steps - 2, 0, -1))
    durations = [step_ms * (4 if s in (0, path.steps - 1) else 1) for s in round_trip]
    frames = [pictures[s].convert("P", palette=Image.Palette.ADAPTIVE, colors=256) for s in round_trip]
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


def table(path: Path, evidence: Evidence | None = None, morphology: pd.DataFrame | None = None) -> pd.DataFrame:
    """A path as a table, one row per step; the numbers under the pictures.

    Parameters
    ----------
    morphology : DataFrame, optional
        One row per step, see `cytovae.explore.morphology.measure`.
    """
    out = pd.DataFrame(
        {
            "step": np.arange(path.steps),
            "n_features": path.n_features,
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
        out["off_data"] = evidence.off_data
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
    return steps.assign(**{PROVENANCE: json.dumps(record, sort_keys=True)}).to_csv(index=False).encode()


def provenance_in(content: bytes, suffix: str) -> dict[str, Any]:
    """The provenance inside a file made here, or an empty dict where there is none.

    Parameters
    ----------
    content : bytes
    suffix : str
        ``.png``, ``.gif``, ``.svg``, ``.csv`` or ``.json``.
    """
    from PIL import Image

    try:
        if suffix in (".png", ".gif"):
            with Image.open(io.BytesIO(content)) as image:
                found = image.info.get("cytovae" if suffix == ".png" else "comment", "{}")
        elif suffix == ".svg":
            found = html.unescape(content.decode().partition("<metadata>")[2].partition("</metadata>")[0])
        elif suffix == ".csv":
            found = pd.read_csv(io.BytesIO(content), nrows=1)[PROVENANCE].iloc[0]
        else:
            found = json.dumps(json.loads(content)["provenance"])
        record = json.loads(found)
    except (ValueError, KeyError, IndexError, TypeError, OSError):  # whatever else the file is, it is not ours
        return {}
    return record if isinstance(record, dict) else {}


def _passes(channels: Sequence[str], look: str) -> list[tuple[int, ...]]:
    """Which channels each picture of an image shows: one alone where they are grey, else the first ones together."""
    return [(c,) for c in range(len(channels))] if look == "grey" else [tuple(range(len(channels)))[:OVERLAID]]


def _left_out(channels: Sequence[str], passes: list[tuple[int, ...]]) -> str:
    """A word on the channels that no picture shows."""
    lost = channels[len(sum(passes, ())) :]
    return f"   (not shown: {', '.join(lost)}; the look grey shows every channel)" if lost else ""


def _ink_of(look: str, channel: int, of: int) -> tuple[int, ...]:
    """The colour of one of so many channels, dark enough to be read on white."""
    return (96, 96, 96) if look == "grey" or of == 1 else tuple(int(255 * v * 0.8) for v in COLOURS[look][channel])


def _short(text: str, n: int) -> str:
    return text if len(text) <= max(n, 8) else text[: max(n, 8) - 1] + "…"


class _Drawing:
    """Images, boxes and lines of text at places (px), drawn as PNG or as SVG."""

    def __init__(self) -> None:
        self.items: list[tuple[str, tuple[Any, ...]]] = []
        self.width = 0.0
        self.height = 0.0

    def image(self, x: float, y: float, width: int, height: int, pixels: npt.NDArray[np.uint8]) -> None:
        self.items.append(("image", (x, y, width, height, pixels)))

    def box(self, x: float, y: float, width: float, height: float, colour: tuple[int, ...]) -> None:
        self.items.append(("box", (x, y, width, height, colour)))

    def text(
        self, x: float, y: float, text: str, size: int, colour: tuple[int, ...] = _INK, centred: bool = False
    ) -> float:
        """Add a line of text whose top is at `y`; returns its width."""
        width = _font(size).getlength(text)
        x = x - width / 2 if centred else x
        self.items.append(("text", (x, y, text, size, colour)))
        self.width = max(self.width, x + width + 8)
        return float(width)

    def scale_bar(self, x: float, y: float, length: float, label: str) -> None:
        """White on a black plate, so that it can be read on any image."""
        plate = max(length, _font(11).getlength(label)) + 6
        self.box(x - 3, y - 16, plate, 22, (0, 0, 0))
        self.text(x, y - 14, label, 11, (255, 255, 255))
        self.box(x, y, length, 3, (255, 255, 255))

    def raster(self) -> Any:
        from PIL import Image, ImageDraw

        canvas = Image.new("RGB", (round(self.width), round(self.height)), _PAPER)
        draw = ImageDraw.Draw(canvas)
        for kind, what in self.items:
            if kind == "image":
                x, y, width, height, pixels = what
                canvas.paste(
                    Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (round(x), round(y))
                )
            elif kind == "box":
                x, y, width, height, colour = what
                draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
            else:
                x, y, text, size, colour = what
                draw.text((x, y), text, font=_font(size), fill=colour)
        return canvas

    def png(self, record: dict[str, Any] | None) -> bytes:
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_text("cytovae", json.dumps(record or {}))
        out = io.BytesIO()
        self.raster().save(out, format="PNG", pnginfo=info, optimize=True)
        return out.getvalue()

    def svg(self, record: dict[str, Any] | None) -> bytes:
        from PIL import Image

        w, h = round(self.width), round(self.height)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}">',
            f"<metadata>{html.escape(json.dumps(record or {}))}</metadata>",
            f'<rect width="{w}" height="{h}" fill="#fff"/>',
        ]
        for kind, what in self.items:
            if kind == "image":
                x, y, width, height, pixels = what
                out = io.BytesIO()
                Image.fromarray(pixels).save(out, format="PNG")
                data = base64.b64encode(out.getvalue()).decode()
                parts.append(
                    f'<image x="{x:g}" y="{y:g}" width="{width}" height="{height}" preserveAspectRatio="none" '
                    f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
                )
            elif kind == "box":
                x, y, width, height, colour = what
                parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="rgb{colour}"/>')
            else:
                x, y, text, size, colour = what
                parts.append(
                    f'<text x="{x:.1f}" y="{y + 0.85 * size:.1f}" font-family="DejaVu Sans, Verdana, sans-serif" '
                    f'font-size="{size}" fill="rgb{colour}">{html.escape(text)}</text>'
                )
        return ("\n".join([*parts, "</svg>"]) + "\n").encode()


@functools.lru_cache(maxsize=16)
def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(FilePath(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
