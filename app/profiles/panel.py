"""What the terms of the Profiles page mean."""

from app.common.panels import Panel, arrow, text

_CELLS = "".join(
    f'<circle cx="{x}" cy="{y}" r="4"/>' for x, y in ((28, 30), (48, 22), (62, 40), (36, 50), (54, 60), (30, 70))
)
_POINTS = "".join(
    f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}" stroke="none"/>'
    for x, y, colour in (
        *((268, 28, "#0072B2"), (282, 40, "#0072B2"), (262, 46, "#0072B2")),
        *((318, 62, "#D55E00"), (332, 50, "#D55E00"), (330, 74, "#D55E00")),
    )
)
PANEL = Panel(
    _CELLS
    + text(46, 98, "cells of a well")
    + arrow(84, 46, 126)
    + '<rect x="140" y="36" width="18" height="18" rx="3"/><path d="M149 45m-3 0h6"/>'
    + text(150, 98, "their mean: a profile")
    + arrow(172, 46, 224)
    + '<rect x="240" y="12" width="110" height="74" rx="6"/>'
    + _POINTS
    + '<path d="M252 24q22 -14 40 10q4 26 -22 26q-30 -8 -18 -36z" stroke-dasharray="4 3"/>'
    + text(295, 98, "map; dashed: a lasso"),
    "Cells of a well are averaged to a profile, and profiles are drawn as points on a map",
    {
        "Embedding": "the numbers by which a model describes a cell; cells that look alike get similar numbers.",
        "Profile": "the mean of the embeddings of a well's or a treatment's cells.",
        "Principal components": "the two directions in which the points differ most; the axes say how much of all "
        "difference they hold. Distances can be trusted as far as that goes.",
        "UMAP": "a map that keeps neighbours together. Distances between far groups, and sizes of groups, mean "
        "nothing.",
        "Lasso": "drag round points to select them; 'Select' does the same by name, from the keyboard. What is "
        "selected is selected on every page, and the address of the page keeps it.",
        "Times chance": "a mechanism's share of the selected cells over its share of all cells.",
        "p, corrected": "how often chance alone would gather as many of a mechanism's compounds; corrected "
        "because many mechanisms are asked.",
        "Activity": "whether a treatment's wells or cells are more alike than the controls of their plates are "
        "(`cytovae activity`). By cells, what sets a well apart counts as the treatment's.",
    },
)
