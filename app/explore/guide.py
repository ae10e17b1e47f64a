"""What the Explore page explains: how to begin, treatments that show something, and its words."""

from __future__ import annotations

import streamlit as st

from app.common import loaders
from app.common.words import plain
from app.explore import view
from cytovae import schema
from cytovae.screen import Screen

WORDS = {
    "Decoded": "drawn by the model from 256 numbers, not photographed. Pictures marked *real* are photographs.",
    "Cosine to the target": "how alike two cells are to the model: 1 the same, 0 unrelated. *Planned* is the point on "
    "the route; *seen in the image* is the picture drawn there, looked at by the model again. Far apart: the picture "
    "does not show what was planned.",
    "Features changed": "how many of the numbers stand at the target's values; those that differ most go first.",
    "Unlike any real cell": "a step that is stranger to the model than almost all real cells; do not read it as one.",
    "Nearest real cell": "the photographed cell most like the step, and what it was treated with.",
    "Most central cell": "the real cell closest to the mean of its treatment.",
    "Cells that respond": "those that moved farther towards the treatment than 95 % of the controls did.",
    "Control-to-control path": "the same route between two untreated cells: what differs where no drug is at work.",
}
"""Terms of the page, each in a sentence."""


def guide(screen: Screen, model: str) -> None:
    """How to begin, examples of this screen, and what the words mean."""
    sentence, *hints = view.GUIDE
    st.markdown(f"**{sentence}**\n" + "\n".join(f"{k}. {hint}" for k, hint in enumerate(hints, start=1)))
    names = view.examples(screen, model)
    if names:
        known = loaders.activity(screen, model)
        active = known is not None and bool(known["active"].reindex(names).fillna(False).astype(bool).all())
        st.markdown(
            f"**Begin with** the {'active ' if active else ''}treatment of each mechanism that leads away most surely:"
        )
        moas = loaders.treatments(screen).set_index(schema.TREATMENT)
        for name in names:
            row = moas.loc[name]
            label = plain(f"{row[schema.MOA]}: {loaders.named(name)}")
            help_ = f"{row[schema.N_CELLS]:,} cells"
            if st.button(label, key=f"example-{name}", help=help_, type="tertiary"):
                st.session_state.update({"next-treatment": name, "next-target": view.usual_target(screen, model, name)})
                st.rerun()
    st.markdown("\n".join(f"- **{term}**: {meaning}" for term, meaning in WORDS.items()))
