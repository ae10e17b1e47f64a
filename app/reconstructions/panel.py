"""What the terms of the Reconstructions page mean."""

from app.common.panels import Panel, arrow, text

_CELL = (
    '<rect x="{x}" y="16" width="60" height="60" rx="5"/><ellipse cx="{n}" cy="46" rx="13" ry="16" '
    'fill="#D55E00" fill-opacity="{o}" stroke="none"/><path d="M{a} 30q30 -14 46 8q6 30 -22 34q-34 -4 -24 -42z" {d}/>'
)
PANEL = Panel(
    _CELL.format(x=20, n=50, a=30, o=0.8, d="")
    + text(50, 98, "real cell")
    + arrow(92, 46, 132)
    + "".join(f'<path d="M150 {20 + 6 * k}h{8 + (7 * k) % 23}"/>' for k in range(10))
    + text(164, 98, "256 numbers")
    + arrow(200, 46, 242)
    + _CELL.format(x=262, n=292, a=272, o=0.5, d='stroke-opacity="0.45"')
    + text(292, 98, "reconstruction"),
    "A model turns a cell into 256 numbers and those numbers back into a cell",
    {
        "Reconstruction": "what a model draws of a cell from its numbers alone: it shows what the numbers hold.",
        "Held-out": "cells of wells that the model was not trained on; only these say how well it does.",
        "mse": "mean squared difference of the pixels; 0 is best. A blurred picture can have a small one.",
        "ssim": "structural similarity of small windows; 1 is best.",
        "Sharpness": "fine detail in the reconstruction over that of the real cells; 1 is as sharp. Detail can "
        "be sharp and still not be the cell's own.",
        "Grid": "a regular pattern of 2 or 4 px that drawing can leave behind; 1 means none.",
        "Frechet": "how far the reconstructions as a set differ from the real cells as a set; 0 is best.",
        "AE, VAE, VAE+": "the models of the paper: an autoencoder; a variational one, whose numbers are smooth; "
        "and one with a second network that judges whether a picture looks real, which makes it sharp.",
    },
)
