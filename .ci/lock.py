"""Write the lock files: what pip resolves for `.` and for `.[dev]` in an empty environment, with exact versions.

The run-time packages are the same in both: the second is resolved under the first.

``requirements-hashes.lock`` holds the run-time packages once more, with the sha256 of the very files that pip takes on
this platform, for ``pip install --require-hashes --no-deps``. PyTorch is left out of it: which build is taken, for CPU
or CUDA, is the user's choice. ``python .ci/lock.py hashes`` writes this file alone, from requirements.lock.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"


def report(python: Path, *words: str) -> list[dict[str, Any]]:
    """What pip would install into an empty environment."""
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *words]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return list(json.loads(ran.stdout)["install"])


def name_of(item: dict[str, Any]) -> str:
    """A package's name as the lock files write it."""
    return str(item["metadata"]["name"]).lower().replace("_", "-")


def resolve(python: Path, *words: str) -> dict[str, str]:
    """Name -> version of everything pip would install for a target."""
    return {name_of(item): item["metadata"]["version"].split("+")[0] for item in report(python, TORCH, *words)}


def hashes(python: Path, lock: Path) -> list[str]:
    """The lines of a lock file with the sha256 of the files that pip takes for them, without PyTorch."""
    lines = [line for line in lock.read_text().splitlines() if "==" in line and not line.startswith("torch==")]
    lines = [
        f"{name_of(item)}=={item['metadata']['version']} "
        f"--hash=sha256:{item['download_info']['archive_info']['hashes']['sha256']}"
        for item in report(python, "--no-deps", *lines)
    ]
    return sorted(lines)


def main() -> None:
    """Write all lock files, or only that with hashes."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        if sys.argv[1:] != ["hashes"]:
            run, dev = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
            for lock, words in ((run, ["."]), (dev, ["--constraint", str(run), ".[dev]"])):
                versions = resolve(python, *words)
                lines = sorted(f"{package}=={version}" for package, version in versions.items() if package != "cytovae")
                lock.write_text("# made by `make lock`\n" + "\n".join(lines) + "\n")
        kind = f"{platform.system()} {platform.machine()}, Python {platform.python_version().rpartition('.')[0]}"
        lines = [f"# made by `make lock` for {kind}", *hashes(python, ROOT / "requirements.lock")]
        (ROOT / "requirements-hashes.lock").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
