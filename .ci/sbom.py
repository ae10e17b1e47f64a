"""What the run-time packages are, under which licences, as CycloneDX: ``python .ci/sbom.py [FILE]``, offline.

Names and versions come from requirements.lock, licences from the packages that are installed, hashes from
requirements-hashes.lock. It fails where a package is installed in another version, or states no licence.
"""

import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPYLEFT = re.compile(r"\bA?GPL", re.IGNORECASE)
"""What must not be among the run-time packages; the LGPL may."""


def locked() -> dict[str, str]:
    """Name -> version of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def hashes() -> dict[str, str]:
    """Name -> sha256 of requirements-hashes.lock."""
    found = re.findall(r"^(\S+)==\S+ --hash=sha256:(\w+)$", (ROOT / "requirements-hashes.lock").read_text(), flags=re.M)
    return dict(found)


def licence(name: str) -> str:
    """What an installed package says of its licence: an expression, classifiers, a field, or its file's head."""
    there = importlib.metadata.distribution(name)
    told = there.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    classes = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License :: ")]
    classes = [c for c in classes if c != "OSI Approved"]
    lines = (told.get("License") or there.read_text("licenses/LICENSE") or "").strip().splitlines()
    return "; ".join(classes) or (lines[0].strip() if lines else "")


def document() -> dict[str, Any]:
    """The bill of materials."""
    digests, components = hashes(), []
    for name, version in sorted(locked().items()):
        there = importlib.metadata.version(name).split("+")[0]
        if there != version:
            sys.exit(
                f"{name} {there} is installed, requirements.lock says {version}: run 'make test' or 'make lock' first"
            )
        if not (said := licence(name)):
            sys.exit(f"{name} {version} states no licence: look it up before it is shipped")
        component = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "licenses": [{"license": {"name": said}}],
        }
        if name in digests:
            component["hashes"] = [{"alg": "SHA-256", "content": digests[name]}]
        components.append(component)
    own = {
        "type": "application",
        "name": "cytovae",
        "version": importlib.metadata.version("cytovae"),
        "bom-ref": "cytovae",
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": components,
    }


def main() -> None:
    """Write it, and list the licences."""
    made = document()
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "sbom.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(made, indent=1) + "\n")
    for component in made["components"]:
        print(f"{component['name']} {component['version']}: {component['licenses'][0]['license']['name']}")


if __name__ == "__main__":
    main()
