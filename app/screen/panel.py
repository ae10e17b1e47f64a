"""What the terms of the Screen page mean."""

from app.common.panels import Panel, arrow, text

_WELLS = "".join(
    f'<rect x="{14 + 15 * c}" y="{22 + 14 * r}" width="12" height="11" rx="2"'
    f"{' fill=' + chr(34) + '#D55E00' + chr(34) if (r, c) == (1, 3) else ''}/>"
    for r in range(4)
    for c in range(6)
)
PANEL = Panel(
    _WELLS
    + text(58, 98, "plate, well")
    + arrow(114, 46, 138)
    + '<rect x="150" y="16" width="76" height="60" rx="4"/>'
    + "".join(f'<circle cx="{x}" cy="{y}" r="6"/>' for x, y in ((168, 32), (196, 28), (212, 52), (180, 58), (160, 64)))
    + '<rect x="186" y="18" width="20" height="20" stroke="#D55E00"/>'
    + text(188, 98, "field")
    + arrow(238, 46, 262)
    + '<rect x="276" y="16" width="60" height="60" rx="4" stroke="#D55E00"/><circle cx="306" cy="46" r="19"/>'
    + text(306, 98, "cell (patch)"),
    "A plate has wells, a well has fields, and a patch is cut out round every nucleus of a field",
    {
        "Plate, well, field": "a plate is a dish of wells; each well got one treatment; a field is one picture "
        "of a well.",
        "Patch": "the square that is cut out round a nucleus; what models see.",
        "Treatment": "a compound at a dose. Mechanism: what the compound is known to do.",
        "Control": "wells that got the solvent alone, marked C.",
        "Batch": "plates that were made and imaged together, such as a week.",
        "Activity": "whether a treatment's wells or cells are more alike than the controls of their plates are.",
        "Refused field": "a picture that could not be read, with the reason.",
        "Training": "how a model's errors fell while it learned, and what it drew on the way of cells it was "
        "not shown.",
    },
)
