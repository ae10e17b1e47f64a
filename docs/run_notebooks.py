"""Run the notebooks and keep what comes out in them: ``python docs/run_notebooks.py [NOTEBOOK...]``.

A notebook is run as Jupyter would run it, cell by cell, in an empty folder; ``!cytovae ...`` runs that command.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.ipynb"))


def command(line: str) -> None:
    """``cytovae ...`` in this process; its result is printed."""
    from typer.testing import CliRunner

    from cytovae.cli import verbs

    done = CliRunner().invoke(verbs.app, shlex.split(line)[1:], catch_exceptions=False)
    print(done.stdout, end="")
    if done.exit_code:
        raise RuntimeError(f"{line}: {done.output}")


def python(source: str) -> str:
    """A cell as Python alone."""
    return "\n".join(f"_command({line[1:]!r})" if line.startswith("!") else line for line in source.splitlines())


def shown(value: Any) -> dict[str, Any]:
    """A value as a notebook shows it."""
    data: dict[str, Any] = {"text/plain": repr(value)}
    if hasattr(value, "to_string"):
        data["text/plain"] = value.to_string()
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return {"output_type": "execute_result", "metadata": {}, "data": data}


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What comes out of each code cell; the first error ends it."""
    names: dict[str, Any] = {"_command": command}
    came_out = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, cell in enumerate(c for c in notebook["cells"] if c["cell_type"] == "code"):
            tree = ast.parse(python("".join(cell["source"])))
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            outputs: list[dict[str, Any]] = []
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(tree, f"cell {number + 1}", "exec"), names)
                value = None
                if last is not None:
                    value = eval(compile(ast.Expression(last.value), f"cell {number + 1}", "eval"), names)
            if text := printed.getvalue():
                outputs.append({"output_type": "stream", "name": "stdout", "text": text})
            if value is not None:
                outputs.append({**shown(value), "execution_count": number + 1})
            came_out.append(outputs)
    return came_out


def main() -> None:
    """Run notebooks, write their outputs into them."""
    for path in [Path(name).resolve() for name in sys.argv[1:]] or NOTEBOOKS:
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, (cell, outputs) in enumerate(zip(code, run(notebook), strict=True), start=1):
            cell["outputs"], cell["execution_count"] = outputs, number
        path.write_text(json.dumps(notebook, indent=1) + "\n")
        print(f"{path.name}: {len(code)} cells")


if __name__ == "__main__":
    main()
