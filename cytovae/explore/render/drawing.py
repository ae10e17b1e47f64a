"""A drawing: images, boxes and lines of text at places, as PNG or SVG, with provenance inside."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import numpy.typing as npt

INK, PAPER, WARN = (32, 32, 32), (255, 255, 255), (176, 48, 0)


class Drawing:
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
        self, x: float, y: float, text: str, size: int, colour: tuple[int, ...] = INK, centred: bool = False
    ) -> float:
        """Add a line of text whose top is at `y`; returns its width."""
        width = font_of(size).getlength(text)
        x = x - width / 2 if centred else x
        self.items.append(("text", (x, y, text, size, colour)))
        self.width = max(self.width, x + width + 8)
        return float(width)

    def scale_bar(self, x: float, y: float, length: float, label: str) -> None:
        """White on a black plate, so that it can be read on any image."""
        plate = max(length, font_of(11).getlength(label)) + 6
        self.box(x - 3, y - 16, plate, 22, (0, 0, 0))
        self.text(x, y - 14, label, 11, (255, 255, 255))
        self.box(x, y, length, 3, (255, 255, 255))

    def raster(self) -> Any:
        from PIL import Image, ImageDraw

        canvas = Image.new("RGB", (round(self.width), round(self.height)), PAPER)
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
                draw.text((x, y), text, font=font_of(size), fill=colour)
        return canvas

    def png(self, record: dict[str, Any] | None) -> bytes:
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_text("cytovae", json.dumps(record or {}))
        out = io.BytesIO()
        self.raster().save(out, format="PNG", pnginfo=info, optimize=True)
        return out.getvalue()

    def pdf(self, record: dict[str, Any] | None) -> bytes:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        inch = 96  # pixels, as browsers count them
        figure = Figure(figsize=(self.width / inch, self.height / inch))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0))
        axes.axis("off")
        for order, (kind, what) in enumerate(self.items):
            if kind == "image":
                x, y, width, height, pixels = what
                place = (x, x + width, y + height, y)
                axes.imshow(pixels, extent=place, interpolation="none", aspect="auto", zorder=order)
            elif kind == "box":
                x, y, width, height, colour = what
                axes.add_patch(Rectangle((x, y), width, height, color=_share(colour), linewidth=0, zorder=order))
            else:
                x, y, text, size, colour = what
                points = 72 * size / inch
                axes.text(
                    x, y + 0.85 * size, text, fontsize=points, color=_share(colour), zorder=order, parse_math=False
                )
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        out = io.BytesIO()
        figure.savefig(out, format="pdf", metadata={"Subject": json.dumps(record or {}), "CreationDate": None})
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


def _share(colour: tuple[int, ...]) -> tuple[float, ...]:
    """A colour of 0 to 255 as matplotlib takes it."""
    return tuple(v / 255 for v in colour)


@functools.lru_cache(maxsize=16)
def font_of(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(FilePath(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
