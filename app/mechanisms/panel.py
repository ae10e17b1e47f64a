"""What the terms of the Mechanisms page mean."""

from app.common.panels import Panel, arrow, text

_GRID = "".join(
    f'<rect x="{262 + 24 * c}" y="{14 + 24 * r}" width="21" height="21" rx="3" '
    f'fill="{"#4FB3B9" if r == c else "none"}"{"" if r == c else " stroke-opacity=" + chr(34) + "0.35" + chr(34)}/>'
    for r in range(3)
    for c in range(3)
)
PANEL = Panel(
    '<circle cx="40" cy="40" r="8" fill="#0072B2"/><circle cx="84" cy="28" r="8" fill="#0072B2"/>'
    '<circle cx="96" cy="66" r="8" fill="#D55E00"/><path d="M49 38L75 31" stroke-dasharray="3 2"/>'
    + text(66, 98, "nearest neighbour")
    + arrow(124, 46, 238)
    + text(180, 38, "same mechanism?")
    + _GRID
    + text(297, 98, "right: the diagonal"),
    "Each treatment is asked whether its nearest neighbour has the same mechanism; right answers lie on the diagonal",
    {
        "Nearest neighbour": "the treatment whose profile points in the most similar direction.",
        "Cosine": "likeness of two profiles: 1 where they point the same way, 0 where they have nothing in common.",
        "NSC": "not the same compound: another dose of the same compound is no neighbour, since it would be too easy.",
        "NSCB": "not the same compound, nor the same batch: nor is what was imaged in the same week, so that "
        "likeness of plates does not count as likeness of drugs.",
        "Scored": "a treatment counts if another one of its mechanism may be its neighbour under the rule.",
        "Mean average precision (mAP)": "whether all treatments of a mechanism rank each other first, not only the "
        "nearest; 1 is perfect.",
        "Baselines": "what much simpler descriptions reach: the number of cells, simple measurements, pixels, chance.",
        "95 % interval": "the range that the accuracy may well have with other compounds of the same mechanisms.",
    },
)
