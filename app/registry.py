"""The pages of the app: the one list of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A page.

    Parameters
    ----------
    name : str
        Of its folder and in its address.
    title, icon : str
        In the menu.
    """

    name: str
    title: str
    icon: str

    @property
    def file(self) -> Path:
        """What Streamlit runs."""
        return HERE / self.name / "page.py"


PAGES = (
    Entry("explore", "Explore", ":material/conversion_path:"),
    Entry("reconstructions", "Reconstructions", ":material/compare:"),
    Entry("profiles", "Profiles", ":material/scatter_plot:"),
    Entry("mechanisms", "Mechanisms", ":material/hub:"),
    Entry("quiz", "Quiz", ":material/quiz:"),
    Entry("screen", "Screen", ":material/grid_on:"),
)
"""In the order of the menu; the first opens where an address names none."""
