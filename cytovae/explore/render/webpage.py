"""A path as one page that needs nothing else: pictures, evidence, choices and provenance; scrubbing works offline."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cytovae import schema
from cytovae.explore.evidence import MISSES, Evidence
from cytovae.explore.paths import Path
from cytovae.explore.render.colours import COLOURS, Look, composite, scale_bar
from cytovae.explore.render.strip import passes_of

RECORD_ID = "cytovae-provenance"

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } .verdict { border-left: .3rem solid #888; padding: .4rem .8rem }
.verdict.shown { border-color: #1a7f37 } .verdict.nothing, .verdict.doubtful { border-color: #b05a00 }
.cells { display: flex; gap: 1rem; flex-wrap: wrap }
figure { margin: 0; min-width: 0; flex: 1 1 calc(9.5rem * var(--beside)); max-width: calc(14rem * var(--beside)) }
figcaption { font-size: .85rem; line-height: 1.35; padding-top: .3rem; overflow-wrap: anywhere }
img { image-rendering: pixelated; width: 100%; display: block; background: #000 }
.picture { position: relative }
.bar { position: absolute; right: .5rem; bottom: .5rem; height: 3px; background: #fff; box-shadow: 0 0 0 1px #0006 }
.bar span { position: absolute; right: 0; bottom: 5px; color: #fff; font: .75rem/1 system-ui, sans-serif;
  white-space: nowrap; text-shadow: 0 0 3px #000 }
.key { margin: .5rem 0 } .key span { margin-right: 1rem; white-space: nowrap }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; border-radius: 50%;
  background: var(--ink); border: 1px solid #888 }
.strip { display: flex; gap: .2rem; overflow-x: auto; margin: .4rem 0; padding: 3px }
.strip button { padding: 0; border: 2px solid transparent; background: none; cursor: pointer;
  flex: 1 0 calc(1.8rem * var(--beside)); max-width: calc(4.5rem * var(--beside)) }
.strip button[aria-current=true] { border-color: #0969da } .strip .off { outline: 2px dashed #b05a00 }
@media (max-width: 30rem) { figcaption { font-size: .78rem } }
input[type=range] { width: 100% } table { border-collapse: collapse; font-size: .85rem }
td, th { padding: .15rem .6rem; text-align: right } pre { white-space: pre-wrap; font-size: .75rem }
"""

_SCRIPT = """
const steps = JSON.parse(document.getElementById("steps").textContent);
const slider = document.getElementById("step"), buttons = [...document.querySelectorAll(".strip button")];
function show(i) {
  const s = steps[i];
  slider.value = i; slider.setAttribute("aria-valuetext", s.text);
  document.getElementById("decoded").src = s.image; document.getElementById("decoded").alt = s.text;
  document.getElementById("said").textContent = s.text;
  if (s.near) { const n = document.getElementById("near"); n.src = s.near; n.alt = s.nearText;
    document.getElementById("near-said").textContent = s.nearText; }
  buttons.forEach((b, j) => b.setAttribute("aria-current", j === i));
  const line = buttons[i].parentElement;  // the strip follows the step
  line.scrollLeft = buttons[i].offsetLeft - line.offsetLeft - (line.clientWidth - buttons[i].offsetWidth) / 2;
}
slider.addEventListener("input", () => show(+slider.value));
buttons.forEach((b, i) => b.addEventListener("click", () => show(i)));
show(+slider.value);
"""


def webpage(
    path: Path,
    channels: Sequence[str],
    limits: npt.ArrayLike,
    look: str = Look.RGB,
    gamma: float = 1.0,
    pixel_size_um: float | None = None,
    title: str = "",
    *,
    evidence: Evidence,
    verdict: tuple[str, str],
    notes: Sequence[str],
    nearest_images: npt.NDArray | None = None,
    end_images: npt.NDArray | None = None,
    shown: Sequence[int] | None = None,
    opens: int = 0,
    record: dict[str, Any] | None = None,
) -> bytes:
    """A self-contained HTML page.

    Parameters
    ----------
    path, channels, limits, look, gamma, pixel_size_um, title, shown, record
        As in `cytovae.explore.render.strip`; with the look ``grey`` the channels stand side by side in each picture.
    evidence : Evidence
    verdict : tuple of (str, str)
        A level, which colours it, and the sentence.
    notes : sequence of str
        How the ends were chosen and what could not be compared.
    nearest_images, end_images : optional
        As in `cytovae.explore.render.path_rows`.
    opens : int
        The step that it opens with; the last where there are fewer.
    """
    which = passes_of(channels, look, shown)

    def picture(image: npt.NDArray) -> str:
        from PIL import Image

        panels = [composite(image, limits, look, gamma, one) for one in which]
        out = io.BytesIO()
        Image.fromarray(np.concatenate(panels, axis=1)).save(out, format="PNG")
        return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()

    beside = len(which)
    length, unit = scale_bar(pixel_size_um, path.frames.shape[2])
    bar = f'<i class="bar" style="width:{100 * length / path.frames.shape[2] / beside:.2f}%"><span>{unit}</span></i>'

    def figure(image: str, caption: str) -> str:
        return f'<figure><div class="picture">{image}{bar}</div>{caption}</figure>'

    opens = min(max(opens, 0), path.steps - 1)
    steps = []
    for i, caption in enumerate(path.captions):
        off = bool(evidence.off_data[i])
        text = (
            f"Step {i} of {path.steps - 1}, {caption}: cosine to the target {path.cosine[i]:.2f} planned, "
            f"{path.cosine_reencoded[i]:.2f} seen in the image; {100 * evidence.rarity[i]:.0f} % of real cells are as "
            f"strange to the model{', so it is unlike any real cell' if off else ''}"
        )
        step: dict[str, Any] = {"image": picture(path.frames[i]), "text": text, "off": off}
        if nearest_images is not None:
            step["near"] = picture(nearest_images[i])
            step["nearText"] = (
                f"Nearest real cell: {evidence.nearest_ids[i, 0]}, {schema.words(evidence.nearest_treatments[i, 0])}; "
                f"likeness {1 - evidence.nearest_distances[i, 0]:.2f}, more than "
                f"{100 - evidence.support_percentile[i]:.0f} % of real cells have to theirs (the path's own ends are "
                "left out)"
            )
        steps.append(step)
    said = html.escape
    ends = ""
    if end_images is not None:
        ends = "".join(
            figure(f'<img src="{picture(image)}" alt="{said(name)}">', f"<figcaption>{said(name)}</figcaption>")
            for image, name in zip(
                end_images,
                (f"Real cell at the start: {path.control_id}", f"Real cell at the end: {path.target_id}"),
                strict=True,
            )
        )
    decoded = figure('<img id="decoded" alt="">', '<figcaption id="said"></figcaption>')
    near = figure('<img id="near" alt="">', '<figcaption id="near-said"></figcaption>')
    strip = "".join(
        f'<button aria-label="step {i}"{" class=off" if s["off"] else ""}><img src="{s["image"]}" alt=""></button>'
        for i, s in enumerate(steps)
    )
    if look == Look.GREY:
        key = "Each channel alone, from the left: " + said(", ".join(channels[c] for one in which for c in one))
    else:
        inks = [(channels[c], _ink(look, c, channels)) for c in which[0]]
        key = "".join(f'<span><i style="--ink:{ink}"></i>{said(name)}</span>' for name, ink in inks)
    width = f"{path.frames.shape[2] * pixel_size_um:g} µm" if pixel_size_um else f"{path.frames.shape[2]} px"
    summary = evidence.summary[:1].upper() + evidence.summary[1:]
    choices = said(json.dumps(record or {}, indent=1, sort_keys=True))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{said(title)}</title><style>:root {{ --beside: {beside} }}{_STYLE}</style>
<h1>{said(title)}</h1>
<p class="verdict {said(verdict[0])}">{said(verdict[1])}</p>
<label for="step">Step</label><input id="step" type="range" min="0" max="{path.steps - 1}" value="{opens}">
<div class="strip">{strip}</div>
<div class="key">{key}</div>
<div class="cells">{decoded}{near if nearest_images is not None else ""}{ends}</div>
<p>Gamma {gamma:g}; every picture has the same contrast limits and is {width} wide.
{said(summary)}. {said(MISSES)}</p>
<ul>{"".join(f"<li>{said(note)}</li>" for note in notes)}</ul>
<details><summary>Choices and provenance</summary><pre>{choices}</pre></details>
<script type="application/json" id="{RECORD_ID}">{_json(record or {})}</script>
<script type="application/json" id="steps">{_json(steps)}</script>
<script>{_SCRIPT}</script></html>
""".encode()


def _ink(look: str, channel: int, channels: Sequence[str]) -> str:
    """The colour that a channel has in the pictures."""
    return "#999" if len(channels) == 1 else f"rgb{tuple(round(255 * v) for v in COLOURS[look][channel])}"


def _json(value: Any) -> str:
    """JSON that can stand inside a script element."""
    return json.dumps(value).replace("<", "\\u003c")
