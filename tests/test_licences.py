"""The licences of all that is installed with cytovae: each is named, and none asks anything of those who use it."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FREE = (
    r"MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Zlib|CC0|BSL-1.0|HPND|Unlicense|LLVM-exception"
    r"|MPL|Mozilla Public License"  # asks only that changes to its own files are published
)
COPYLEFT = r"\b(A?GPL|LGPL|GNU|CC-BY-NC|SSPL|BUSL|EUPL|CDDL)"
LOOKED_AT = {"umap-learn": "BSD-3-Clause", "cp-measure": "MIT"}
"""Packages that do not name their licence in a way that can be read; what their LICENSE file says."""


def of(found: importlib.metadata.Distribution) -> str:
    """What a package says of its licence."""
    said = found.metadata.get("License-Expression") or ""
    classified = [c for c in found.metadata.get_all("Classifier", []) if c.startswith("License ::")]
    return said or "; ".join(c.rpartition(" :: ")[2] for c in classified) or found.metadata.get("License", "")[:80]


def installed_with(extra: str = "") -> dict[str, str]:
    """Licence of every package that cytovae needs to run, by name: its own needs, theirs and so on."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    todo, licences = [*project["dependencies"], *project["optional-dependencies"].get(extra, [])], {}
    while todo:
        need = Requirement(todo.pop())
        name = re.sub(r"[-_.]+", "-", need.name.lower())
        if name in licences or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        found = importlib.metadata.distribution(need.name)
        licences[name] = of(found)
        todo += found.requires or []
    return licences


def test_every_package_has_a_licence_that_asks_nothing() -> None:
    licences = {name: LOOKED_AT.get(name, said) for name, said in installed_with().items()}
    assert len(licences) > 60
    unknown = {name: said for name, said in licences.items() if not re.search(FREE, said, re.IGNORECASE)}
    assert not unknown
    assert {name: said for name, said in licences.items() if re.search(COPYLEFT, said, re.IGNORECASE)} == {}


@pytest.mark.parametrize("said", ["GPL-3.0-or-later", "GNU Lesser General Public License v3", "", "Proprietary"])
def test_a_licence_that_asks_more_would_be_seen(said: str) -> None:
    assert re.search(COPYLEFT, said, re.IGNORECASE) or not re.search(FREE, said, re.IGNORECASE)


def test_what_was_looked_at_still_does_not_name_its_licence() -> None:
    installed = installed_with()
    named = [name for name in LOOKED_AT if re.search(FREE, installed[name], re.IGNORECASE)]
    assert named == []
