"""The figures of README and pages: measured by the verbs, kept in ``docs/figures``, written between markers.

    python docs/figures.py measure [NAME...] --bbbc021 DIR [--work DIR]    measures anew, some minutes
    python docs/figures.py write    seconds: renews what stands between the markers

What stands between ``<!-- figures: NAME -->`` and ``<!-- end -->`` is made here and nowhere else; a test compares. Each
file in ``docs/figures`` holds the digests of the weights it was measured with, so that the same test fails where a
shipped model is newer than the figures.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODELS = ROOT / "models"
FIGURES = HERE / "figures"
REAL = ("bbbc021-ae", "bbbc021-vae", "bbbc021-vaeplus")
SIMULATED = ("phantom-ae", "phantom-vae", "phantom-vaeplus")
SAMPLE = "A sample of BBBC021 (about 5,700 cells of the collection)"
SOURCE = "image set BBBC021v1 (Caie et al. 2010), Broad Bioimage Benchmark Collection (Ljosa et al. 2012)"
MARKED = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(\n<!-- end -->)", flags=re.S)


def pages() -> list[Path]:
    """Everything that may hold a marker."""
    return [ROOT / "README.md", *sorted(HERE.rglob("*.md"))]


def renewed(text: str) -> str:
    """A page with the figures as they are now between its markers."""
    return MARKED.sub(lambda found: found[1] + block(found[2]) + found[3], text)


# ---- what stands between the markers


class Unmeasured(Exception):
    """A file of figures is not there."""


def read(name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((FIGURES / f"{name}.json").read_text()))
    except FileNotFoundError:
        raise Unmeasured from None


def block(name: str) -> str:
    """What stands between the markers of a name."""
    try:
        return BLOCKS[name]()
    except Unmeasured:
        return "*Not measured yet with the models that ship: `make figures` does it.*"


def config(bundle: str) -> dict[str, Any]:
    return dict(json.loads((MODELS / bundle / "config.json").read_text()))


def metrics(bundle: str) -> dict[str, Any]:
    return dict(json.loads((MODELS / bundle / "metrics.json").read_text()))


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def percent(score: dict[str, Any]) -> str:
    low, high = score.get("ci95") or (None, None)
    return f"{100 * score['accuracy']:.0f}" + ("" if low is None else f" [{100 * low:.0f}, {100 * high:.0f}]")


def called(name: str) -> str:
    """A model's name as code, a baseline's as it is."""
    return f"`{name}`" if (MODELS / name).is_dir() else name


def models_table() -> str:
    """The shipped models, from their own folders."""
    rows = []
    for bundle in (*REAL, *SIMULATED):
        made, found = config(bundle), metrics(bundle)
        recipe, data = made["recipe"], "real" if bundle in REAL else "simulated"
        named = f"`{bundle}`" + (" (recipe `best`)" if recipe.get("recipe") == "best" else "")
        trained = f"{made['data']['n_training_cells']:,} {data} cells"
        numbers = [f"{found['mse']:.4f}", f"{found['ssim']:.2f}", f"{found['sharpness_ratio']:.2f}"]
        numbers += [f"{found['frechet']:.1f}", readable(found), f"{found['grid_ratio']:.2f}"]
        length = f"{recipe['iterations']:,} x {recipe['batch_size']}"
        rows.append([named, trained, length, f"{found['n_cells']:,}", *numbers])
    head = ["model", "trained on", "iterations x batch", "measured on", "mse", "SSIM", "sharpness", "Frechet"]
    return table([*head, "readable from, px", "grid ratio"], rows)


def readable(found: dict[str, Any]) -> str:
    size = found.get("readable_px")
    return "-" if size is None else f"{size:.0f}"


def detail() -> str:
    """Down to what size the shipped models can be read."""
    rows = []
    for bundle in (*REAL, *SIMULATED):
        found = metrics(bundle)
        if "coherence" not in found:
            continue  # trained before it was measured
        bands = [f"{c:.2f} ({f:.2f})" for c, f in zip(found["coherence"], found["coherence_floor"], strict=True)]
        rows.append([f"`{bundle}`", readable(found), *bands, f"{found['n_cells']:,}"])
    head = ["model", "`readable_px`", "coarser than 8 px", "8 to 4 px", "4 to 2.7 px", "finer", "cells"]
    return "Coherence of the shipped models on held-out cells, with its floor in brackets:\n\n" + table(head, rows)


def steadiness() -> str:
    """How far the last five snapshots of the shipped trainings lie apart."""
    rows = []
    for bundle in (*REAL, *SIMULATED):
        path = MODELS / bundle / "snapshots.jsonl"
        if not path.exists():
            continue  # trained before snapshots were measured
        last = [json.loads(line) for line in path.read_text().splitlines()][-5:]
        cells = [f"`{bundle}`", f"{last[0]['iteration']:,} to {last[-1]['iteration']:,}"]
        for name in ("frechet", "sharpness_ratio", "ssim"):
            found = [line[name] for line in last]
            apart = (max(found) - min(found)) * len(found) / sum(found)
            said = f"{min(found):.3g} to {max(found):.3g} ({100 * apart:.0f} %)"
            cells.append(f"**{said}**" if apart < 0.1 else said)
        rows.append([*cells, f"{last[-1]['n_cells']:,}"])
    return table(["model", "iterations", "Frechet", "sharpness", "SSIM", "cells"], rows)


def mechanisms() -> str:
    """Accuracy on the sample of real cells."""
    found = read("sample")
    shown = [line for line in found["scores"] if line["rule"] == "NSC"]
    rows = []
    for rule in ("NSC", "NSCB"):
        of_rule = {line["name"]: line for line in found["scores"] if line["rule"] == rule}
        some = next(iter(of_rule.values()))
        scored = f"{some['n_scored']} of {some['n_treatments']}"
        rows.append([rule, scored, *(percent(of_rule[line["name"]]) for line in shown)])
    heads = [called(line["name"]) for line in shown]
    return table(["rule", "scored", *heads], rows)


def sample_words() -> str:
    """What the sample can and cannot tell, from its own comparisons."""
    found = read("sample")
    said = []
    for line in found["scores"]:
        for against in line.get("comparisons", []):
            if line["name"] == "bbbc021-vaeplus" and against["baseline"] == "simple measurements":
                low, high = (100 * x for x in against["ci95"])
                said.append(
                    f"{100 * against['difference']:+.0f} points [{low:+.0f}, {high:+.0f}] under {line['rule']} "
                    f"({against['verdict']})"
                )
    return (
        f"Plain means of {found['n_cells']:,} cells, median {found['median_cells']:.0f} cells a treatment; most of "
        "them were trained on. 95 % intervals over compounds. VAE+ minus simple measurements, paired: "
        f"{', '.join(said)}."
    )


def elsewhere() -> str:
    """The demo's screen and the published profiles, in words."""
    demo, published = read("demo"), read("published")
    told = {}
    for line in demo["scores"]:
        told.setdefault(line["name"], []).append(f"{100 * line['accuracy']:.0f}")
    parts = [f"{called(name)} {' and '.join(values)}" for name, values in told.items()]
    scored = [line for line in published["scores"] if line["name"] != "chance"]
    right = [f"{line['n_correct']} of {line['n_scored']} under {line['rule']}" for line in scored]
    return (
        f"On the demo's simulated screen ({demo['n_treatments']} treatments, {demo['n_cells']:,} cells), in % under "
        f"NSC and NSCB: {'; '.join(parts)}. On the published per-well CellProfiler profiles of Ljosa et al. (2013), "
        f"`cytovae benchmark --profiles` has {' and '.join(right)} right."
    )


def truth() -> str:
    """What paths of the simulated screen change, beside what the real cells do."""
    found = read("truth")
    rows = []
    for line in found["rows"]:
        cells = [line["path"]]
        for measure in ("actin", "nucleus"):
            mean, low, high, real = line[measure]
            cells += [f"{mean:.1f} [{low:.1f}, {high:.1f}]", f"{real:.1f}"]
        rows.append(cells)
    return table(["path", "actin, mean", "of the real cells", "nuclear area", "of the real cells"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "models": models_table,
    "detail": detail,
    "steadiness": steadiness,
    "mechanisms": lambda: f"{mechanisms()}\n\n{sample_words()}",
    "elsewhere": elsewhere,
    "truth": truth,
}


# ---- how the figures are measured


def cytovae(*words: object) -> dict[str, Any]:
    """One verb; what it answers with --json."""
    command = [sys.executable, "-m", "cytovae", *map(str, words), "--json"]
    print("cytovae", *words, flush=True)
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(answer))


def keep(name: str, bundles: tuple[str, ...], **values: Any) -> None:
    """Write one file of figures, with the weights it was measured with."""
    document = {"weights": {bundle: config(bundle)["weights"] for bundle in bundles}, **values}
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def scores(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a benchmark that are shown: plain means, models first."""
    kept = ("rule", "accuracy", "ci95", "n_correct", "n_scored", "n_treatments", "comparisons")
    models = answer["model"] if isinstance(answer.get("model"), dict) else answer
    lines = [*models["scores"], *models.get("baselines", [])]
    return [
        {"name": line.get("bundle") or line.get("baseline"), **{k: line[k] for k in kept if k in line}}
        for line in lines
        if line["summary"] == "mean" and line["whiten"] == "none"
    ]


def benchmark(screen: Path, bundles: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = cytovae("benchmark", screen, *bundles, "--summary", "mean", "--whiten", "none", "--no-figures")
    held = answer["model"] if isinstance(answer.get("model"), dict) else answer
    return {"scores": scores(answer)}, dict(held["screen"])


def measure_sample(work: Path, bbbc021: Path | None) -> None:
    """Mechanisms on the sample of real cells, and the two pictures of the README."""
    if bbbc021 is None:
        return
    screen, crops = work / "sample.screen", bbbc021 / "crops"
    channels = ["--channels", "DNA,Tubulin,Actin", "--name", SAMPLE, "--source", SOURCE, "--licence", "CC BY-NC-SA 3.0"]
    cytovae("ingest", "crops", screen, "--images", crops / "cells.npz", "--table", crops / "cells.csv", *channels)
    cytovae("embed", screen, *REAL)
    found, held = benchmark(screen, REAL)
    keep("sample", REAL, n_cells=held["n_cells"], median_cells=held["median_cells_per_treatment"], **found)
    sheet, strip = work / "autoencoders.png", work / "path.png"
    cytovae("reconstruct", screen, REAL[1], REAL[0], REAL[2], "--out", sheet)
    cytovae("interpolate", screen, REAL[2], "--treatment", "simvastatin@20", "--out", strip, "--overwrite")
    for picture in (sheet, strip):
        shrink(picture)


def shrink(picture: Path) -> None:
    """A picture as the WebP that README and pages show."""
    from PIL import Image

    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    image.thumbnail((1400, 1400), Image.Resampling.LANCZOS)
    image.save(HERE / f"{picture.stem}.webp", quality=82, method=6)


def measure_demo(work: Path, bbbc021: Path | None) -> None:
    """Mechanisms on the demo's screen, as the demo itself scores them."""
    folder = work / "demo"
    subprocess.run([sys.executable, "-m", "cytovae", "demo", "--dir", folder, "--no-app"], cwd=ROOT, check=True)
    results = folder / "phantom.screen" / "results"
    scored = {bundle: json.loads((results / bundle / "scores.json").read_text()) for bundle in SIMULATED}
    lines = [line for bundle in SIMULATED for line in scores({**scored[bundle], "baselines": []})]
    lines += scores({**scored[SIMULATED[-1]], "scores": []})
    held = scored[SIMULATED[-1]]["screen"]
    keep("demo", SIMULATED, n_cells=held["n_cells"], n_treatments=held["n_treatments"], scores=lines)


def measure_published(work: Path, bbbc021: Path | None) -> None:
    """Mechanisms from the published per-well profiles."""
    if bbbc021 is None:
        return
    tables = bbbc021 / "tables"
    profiles = tables / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
    known = ["--image-table", tables / "BBBC021_v1_image.csv", "--moa-table", tables / "BBBC021_v1_moa.csv"]
    keep("published", (), scores=scores(cytovae("benchmark", "--profiles", profiles, *known, "--whiten", "none")))


def measure_truth(work: Path, bbbc021: Path | None) -> None:
    """What changes along paths of a simulated screen that the model has not seen."""
    import numpy as np

    from cytovae.explore import morphology, paths, targets
    from cytovae.learn import bundle
    from cytovae.patches import PatchStore
    from cytovae.screen import Screen

    raw, folder = work / "truth.raw", work / "truth.screen"
    few = ["--treatments", 2, "--wells", 3, "--weeks", 1, "--controls", 3, "--cells", 40, "--seed", 90210]
    cytovae("phantom", raw, *few)
    cytovae("ingest", "bbbc021", raw, folder)
    screen, model = Screen.open(folder), bundle.load(MODELS / "phantom-vaeplus")
    cells = screen.cells()
    images = PatchStore(screen.patches_path).read(np.arange(len(cells)))
    z = model.encode(images)
    control = morphology.measure(images[targets.controls(cells, "DMSO")], model.channels)
    rows = []
    for words, treatment in (
        ("DMSO to actin disruptor", "phantom-actin-A@10"),
        ("DMSO to Aurora inhibitor", "phantom-aurora-A@10"),
        ("DMSO to DMSO of other wells (null)", None),
    ):
        rng = np.random.default_rng(11)
        if treatment is None:
            starts, ends = targets.null_pairs(cells, "DMSO", 24, rng)
            real = control.mean() * 0
        else:
            starts, ends = targets.pairs(cells, treatment, "DMSO", 24, rng)
            treated = morphology.measure(images[targets.rows_of(cells, treatment)], model.channels)
            real = (treated.mean() - control.mean()) / control.std()
        curves = morphology.population(
            paths.population(z[starts], z[ends], model.decode, steps=2).frames, model.channels
        )
        end = curves[curves["step"] == curves["step"].max()].set_index("measure")
        line: dict[str, Any] = {"path": words, "n_pairs": len(starts)}
        for name, measure in (("actin", "actin_mean"), ("nucleus", "nucleus_area_px2")):
            changes = [end.loc[measure, c] / control[measure].std() for c in ("change", "change_low", "change_high")]
            line[name] = [round(float(x), 3) for x in (*changes, real[measure])]
        rows.append(line)
    keep("truth", ("phantom-vaeplus",), n_cells=len(cells), rows=rows)


MEASURES: dict[str, Callable[[Path, Path | None], None]] = {
    "truth": measure_truth,
    "demo": measure_demo,
    "published": measure_published,
    "sample": measure_sample,
}


def write() -> None:
    """Renew what stands between the markers of all pages."""
    for page in pages():
        text = page.read_text()
        if (new := renewed(text)) != text:
            page.write_text(new)
            print(f"renewed {page.relative_to(ROOT)}")


def main() -> None:
    """Read the arguments; measure, or only write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "write"))
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASURES)}; all where none is given")
    parser.add_argument("--bbbc021", type=Path, help="folder with crops/ and tables/ of the real sample")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "figures", help="where screens are made and kept")
    given = parser.parse_args()
    if given.what == "measure":
        for name in given.names or MEASURES:
            MEASURES[name](given.work.resolve(), given.bbbc021 and given.bbbc021.resolve())
    write()


if __name__ == "__main__":
    main()
