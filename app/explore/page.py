"""Explore: the path from a control cell to a treated one."""

from __future__ import annotations

import streamlit as st

from app.common import context, loaders, selection
from app.common.components.link import copy_link
from app.common.words import plain
from app.explore import guide, pick, sections, view
from app.explore.player import evidence, player
from cytovae.explore.paths import Mode, Spacing
from cytovae.explore.study import Request

screen, model = context.header("What does the drug do to the cell?")
top = st.container(key="explore-top")
with top.container(key="explore-menus"):
    one, two, three, four, five = st.columns([2.1, 1.4, 1.4, 0.55, 0.6], vertical_alignment="bottom")
with one:
    by_picture = st.container(key="by-picture").button("by picture", icon=":material/grid_view:", type="tertiary")
    treatment = context.choose_treatment(screen, view.opening(screen, model))
with two:
    target = context.choose_target(view.usual_target(screen, model, treatment))
with four, st.popover("Path", icon=":material/tune:", width="stretch"):
    steps = context.choose("Steps", "steps", view.STEPS)
    mode = context.choose("Route", "mode", list(Mode), words={way: way.words for way in Mode})
    spacing = context.choose("Steps of", "spacing", list(Spacing), words={each: each.words for each in Spacing})
    start = context.choose_start(screen, treatment)
    reverse = context.choose("Direction", "direction", ["forward", "reverse"])
with three:
    control = context.choose_control(start)
with five, st.popover("Guide", icon=":material/lightbulb:", width="stretch"):
    guide.guide(screen, model)

request = Request(
    treatment=treatment,
    target=target,
    control=control,
    start_treatment=start,
    reverse=reverse == "reverse",
    steps=int(steps),
    mode=Mode(mode),
    spacing=Spacing(spacing),
)
drawn, instead = view.sketch_or_typical(screen, model, request)
if instead:  # once more, with menus that say what is shown
    st.session_state.update({"next-target": str(drawn.request.target), "next-control": str(drawn.request.control)})
    st.session_state["instead"] = [*st.session_state.pop(context.UNKNOWN, []), instead]
    st.rerun()
request = drawn.request
st.session_state[selection.PATH] = (str(screen.path), model, drawn.path.z, drawn.start.cell_id, drawn.end.cell_id)
facts = st.empty()
with top.container(key="explore-path"):  # the pictures first; nothing of another path stands beside them meanwhile
    for sentence in st.session_state.pop("instead", []):
        st.warning(plain(sentence), icon=":material/info:")
    said = st.empty()
    said.markdown(":gray[:material/hourglass: **Comparing this path with control cells**]")
    with facts.container():
        st.metric("Steps unlike any real cell", "…", width="content")
        st.caption("…")
    player(*view.sketch_data(screen, model, drawn), key="player", kept=True)
    beside = st.container(key="evidence")
shown = view.view(screen, model, request)
with said:
    sections.verdict(screen, model, shown)
with beside:
    evidence(*view.evidence_data(screen, shown), key="evidence-of-path")
with facts.container():
    with st.container(horizontal=True, gap="large"):
        for name, figure, meaning in view.figures_of(shown):
            st.metric(name, figure, help=meaning, width="content")
    doubts = loaders.plate_doubts(screen, treatment)
    notes = [*([doubts.rstrip(".")] if doubts else []), *view.tested(screen, model, treatment), *view.notes(shown)]
    notes += [*view.readable(model), *view.below_zero(shown)]
    st.caption(". ".join(plain(note[:1].upper() + note[1:]) for note in notes) + ".")
if by_picture:
    pick.dialog(screen, model, shown)


@st.fragment
def downloads() -> None:
    """The address of the view, and files of what is on the screen."""
    with context.page_errors(), st.container(horizontal=True, vertical_alignment="center", gap="small"):
        copy_link("link")
        sections.downloads(screen, model, shown)


@st.fragment
def tabs() -> None:
    """What stands under the path; a tab is worked out when it is opened."""
    for tab, show in zip(context.tabs("tab", list(sections.TABS)), sections.TABS.values(), strict=True):
        if tab.open:
            with tab, context.page_errors():
                show(screen, model, shown)


downloads()
tabs()
