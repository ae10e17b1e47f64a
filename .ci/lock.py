"""Write the lock files: what pip resolves for `.` and for `.[dev]` in an empty environment, with exact versions."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"


def resolve(python: Path, target: str) -> dict[str, str]:
    """Name -> version of everything pip would install for a target."""
    report = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", TORCH, target],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = (item["metadata"] for item in json.loads(report.stdout)["install"])
    return {m["name"].lower().replace("_", "-"): m["version"].split("+")[0] for m in found}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        run, dev = resolve(python, "."), resolve(python, ".[dev]")
    for name, versions in (("requirements.lock", run), ("requirements-dev.lock", dev)):
        lines = sorted(f"{package}=={version}" for package, version in versions.items() if package != "cytovae")
        (ROOT / name).write_text("# made by `make lock`\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
