"""A screen of a million cells from fields to the app: time and peak memory of every step.

Fields of a small phantom are linked again and again under other plates and wells, and every field is given 200 centres
that scatter around its own nuclei: the files, tables, reads and numbers are those of a large screen, its biology is
that of the small one. Centres are given, so no nuclei are looked for; ``benchmarks/ingest.py`` measures that.

    python benchmarks/million.py FOLDER --cells 1000000 [--vaeplus] [--parts-embedded 1] [--app | --app-only]

With ``--parts-embedded N`` only the first N parts of 8,192 cells are embedded with the VAE+, as a shard, and the others
are copies of these with noise: what comes after costs the same, and hours of a slow machine are spared.

Every step is a process of its own: seconds on the clock, seconds of processor, highest resident memory (and of it what
is not pages of files), and cells a second of processor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
PER_FIELD, COLUMNS, ROWS = 200, 24, 16
CHANNELS = {"DNA": "DAPI", "Tubulin": "Tubulin", "Actin": "Actin"}


def make(folder: Path, n_cells: int) -> Path:
    """Raw fields, a LoadData table and a table of centres; the folder they lie in."""
    from cytovae.phantom import screen as phantom

    raw, small = folder / "raw", folder / "phantom"
    if (raw / "nuclei.csv").exists():
        return raw
    phantom.write(small, phantom.PhantomOptions(treatments=24, wells=1, weeks=2, cells=40, controls=3), processes=1)
    table = pd.read_csv(small / phantom.IMAGE_TABLE)
    moas = pd.read_csv(small / phantom.MOA_TABLE)
    nuclei = pd.read_csv(small / "truth" / "nuclei.csv")
    rng = np.random.default_rng(0)
    rows, centres = [], []
    for number in range(-(-n_cells // PER_FIELD)):
        source = table.iloc[number % len(table)]
        well = f"{'ABCDEFGHIJKLMNOP'[number // COLUMNS % ROWS]}{number % COLUMNS + 1:02d}"
        plate = f"Week{1 + number // (COLUMNS * ROWS) % 4}_{number // (COLUMNS * ROWS):03d}"
        (raw / plate).mkdir(parents=True, exist_ok=True)
        row = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": 1}
        for name in CHANNELS.values():
            old = small / source[f"Image_PathName_{name}"] / source[f"Image_FileName_{name}"]
            new = f"{well}_{name}.tif"
            os.link(old, raw / plate / new)
            row |= {f"FileName_{name}": new, f"PathName_{name}": plate}
        compound, dose = source["Image_Metadata_Compound"], source["Image_Metadata_Concentration"]
        moa = moas[(moas["compound"] == compound) & np.isclose(moas["concentration"], dose)]["moa"]
        rows.append(
            row
            | {"Metadata_Compound": compound, "Metadata_Concentration": dose}
            | {"Metadata_MoA": moa.iloc[0] if len(moa) else ""}
        )
        own = nuclei[nuclei["plate"].eq(source["Image_Metadata_Plate_DAPI"])]
        own = own[own["well"].eq(source["Image_Metadata_Well_DAPI"])][["center_y_px", "center_x_px"]].to_numpy()
        some = own[rng.integers(0, len(own), PER_FIELD)] + rng.uniform(-12, 12, (PER_FIELD, 2))
        some = np.clip(some, 36, [512 - 36, 640 - 36]).round(1)
        centres.append(
            pd.DataFrame(
                {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": 1}, index=range(PER_FIELD)
            ).assign(Metadata_CenterY_px=some[:, 0], Metadata_CenterX_px=some[:, 1])
        )
    pd.DataFrame(rows).to_csv(raw / "load_data.csv", index=False)
    pd.concat(centres).to_csv(raw / "nuclei.part", index=False)
    (raw / "nuclei.part").rename(raw / "nuclei.csv")
    return raw


def step(name: str, n_cells: int, *words: str) -> dict[str, float]:
    """Run one command; what it took, printed as a row of a table."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    private = [0]

    def watch() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
            private[0] = max(private[0], *found, 0)
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{said.decode()[-2000:]}")
    took = {
        "clock_s": time.perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_MB": used.ru_maxrss / 1024,
        "private_MB": private[0] / 1024,
    }
    rate = n_cells / took["cpu_s"]
    print(
        f"| {name} | {took['clock_s']:.0f} | {took['cpu_s']:.0f} | {took['peak_MB']:.0f} | {took['private_MB']:.0f} | "
        f"{rate:,.0f} |",
        flush=True,
    )
    return took


FIT = """
import sys
from pathlib import Path
from cytovae.learn import linear
from cytovae.screen import Screen
linear.fit(Screen.open(sys.argv[1]), Path(sys.argv[2]), linear.Recipe(held_out=0.0, most_components=int(sys.argv[3])))
"""


def fill(parts: Path, n_cells: int, cycle: int) -> None:
    """Make the parts that are not there of those that are: cells of the same field and treatment, with some noise."""
    made = np.concatenate([np.load(path) for path in sorted(parts.glob("part-*.npy"))])
    rng, spread = np.random.default_rng(0), made.std(axis=0)
    for number, start in enumerate(range(0, n_cells, 8192)):
        if not (path := parts / f"part-{number:05d}.npy").exists():
            values = made[np.arange(start, min(start + 8192, n_cells)) % cycle]
            np.save(path, values + (0.3 * spread * rng.normal(size=values.shape)).astype(np.float32))


def main() -> None:
    """Print a table of steps."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--cells", type=int, default=1_000_000)
    asked.add_argument("--components", type=int, default=64, help="of the linear model")
    asked.add_argument("--vaeplus", action="store_true", help="embed with the shipped phantom-vaeplus, too")
    asked.add_argument("--parts-embedded", type=int, default=0, help="of the VAE+; the others are copies with noise")
    asked.add_argument("--app", action="store_true", help="measure the app on it, too")
    asked.add_argument("--app-only", action="store_true", help="measure the app on the screen that is there")
    given = asked.parse_args()
    sys.path.insert(0, str(ROOT))
    if given.app_only:
        app(given.folder / "million.screen", ROOT / "models", given.cells)
        return
    start = time.perf_counter()
    raw = make(given.folder, given.cells)
    screen, models = given.folder / "million.screen", given.folder / "models"
    print(f"{given.cells:,} cells, raw data made in {time.perf_counter() - start:.0f} s; load {os.getloadavg()[0]:.1f}")
    print("| step | clock s | processor s | peak MB | of it private MB | cells per processor s |")
    print("|---|---|---|---|---|---|", flush=True)
    n, took = given.cells, {}
    cytovae = ("-m", "cytovae")
    words = ("ingest", "loaddata", str(raw / "load_data.csv"), str(screen), "--centres", str(raw / "nuclei.csv"))
    named = ",".join(f"{ours}={theirs}" for ours, theirs in CHANNELS.items())
    more = ("--channels", named, "--patches", "on-demand", "--workers", "1")
    took["ingest"] = step("ingest, on demand", n, *cytovae, *words, *more)
    if given.parts_embedded:
        model, models = "phantom-vaeplus", ROOT / "models"
        embed = (*cytovae, "embed", str(screen), str(models / model), "--device", "cpu")
        count = -(-n // 8192)
        share = f"1/{count // given.parts_embedded}"
        took["embed"] = step("embed (VAE+), a shard", given.parts_embedded * 8192, *embed, "--shard", share)
        cycle = PER_FIELD * len(pd.read_csv(given.folder / "phantom" / "BBBC021_v1_image.csv"))
        fill(screen / "embeddings" / f".{model}.parts", n, cycle)
        took["merge"] = step("merge, the other parts being drawn", n, *cytovae, "merge", str(screen))
    else:
        model = f"linear{given.components}"
        if not (models / model / "config.json").exists():
            fit = ("-c", FIT, str(screen), str(models / model), str(given.components))
            step(f"fit {given.components} components on 10,000 cells", n, *fit)
        embed = (*cytovae, "embed", str(screen), str(models / model), "--device", "cpu")
        took["embed"] = step(f"embed ({model})", n, *embed)
        if given.vaeplus:
            vaeplus = ("embed", str(screen), str(ROOT / "models" / "phantom-vaeplus"), "--device", "cpu")
            took["vaeplus"] = step("embed (VAE+)", n, *cytovae, *vaeplus)
    took["profile"] = step("profile, without maps", n, *cytovae, "profile", str(screen), model, "--no-maps")
    took["map"] = step("maps (principal axes, 100,000 cells drawn)", n, *cytovae, "profile", str(screen), model)
    treatment = pd.read_csv(raw / "load_data.csv")
    treatment = treatment[treatment["Metadata_Compound"] != "DMSO"].iloc[0]
    name = f"{treatment['Metadata_Compound']}@{treatment['Metadata_Concentration']:g}"
    words = ("interpolate", str(screen), str(models / model), "--control", "auto", "--treatment", name)
    took["path"] = step(f"a path to {name}", n, *cytovae, *words, "--out", str(given.folder / "path.json"))
    size = {p.name: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in screen.iterdir() if p.is_dir()}
    size |= {p.name: p.stat().st_size for p in screen.iterdir() if p.is_file()}
    print("bytes a cell:", ", ".join(f"{k} {v / n:.0f}" for k, v in sorted(size.items())))
    (given.folder / f"million.{n}.json").write_text(json.dumps({"steps": took, "bytes": size}, indent=1))
    if given.app:
        app(screen, models, n)


def used(pid: int) -> float:
    """Seconds of processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def app(screen: Path, models: Path, n: int) -> None:
    """Print what the app takes to its first picture, another path, other pages and the map of cells."""
    from playwright.sync_api import sync_playwright

    from benchmarks import browser

    browser.N_CELLS = n
    chromium = os.environ.get("CYTOVAE_CHROMIUM") or shutil.which("chromium")
    port = 18_000 + os.getpid() % 1000
    start = time.perf_counter()
    server = browser.serve(screen, models, port)
    url = f"http://127.0.0.1:{port}"
    began = (start, 0.0)

    def said(what: str) -> None:
        print(
            f"| {what} | {time.perf_counter() - began[0]:.1f} | {used(server.pid) - began[1]:.1f} | "
            f"{os.getloadavg()[0]:.0f} |",
            flush=True,
        )

    print("| the app | clock s | processor s of the server | load |")
    print("|---|---|---|---|")
    said("healthy")
    try:
        with sync_playwright() as playwright:
            opened = playwright.chromium.launch(executable_path=chromium, args=browser.FLAGS)
            page = opened.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(300_000)

            def shown(other_than: str | None = None) -> None:
                page.wait_for_function(
                    f"(old) => {{ const now = ({browser.PLAYER})(); return now !== null && now !== old }}",
                    arg=other_than,
                )

            for label in ("first picture of a session", "the same again, warm"):
                began = (time.perf_counter(), used(server.pid))
                page.goto(url)
                shown()
                said(label)
                browser.quiet(page)
            for which in (3, 5, 7):
                before = page.evaluate(browser.PLAYER)
                page.get_by_role("combobox", name="Treatment").click()
                options = page.get_by_role("option")
                options.first.wait_for()
                began = (time.perf_counter(), used(server.pid))
                options.nth(min(which, options.count() - 1)).click()
                shown(before)
                said("another path")
                browser.quiet(page)
            for name, sign in (("Screen", "What is in"), ("Explore", "What does the")):
                began = (time.perf_counter(), used(server.pid))
                page.get_by_role("link", name=name).click()
                page.get_by_text(sign).first.wait_for()
                said(f"the page {name}")
                browser.quiet(page)
            began = (time.perf_counter(), used(server.pid))
            page.goto(f"{url}/profiles?level=cells")
            page.wait_for_selector(".scatter[data-ready]")
            said("map of cells")
            status = Path(f"/proc/{server.pid}/status").read_text()
            for word, meaning in (("VmHWM", "peak memory"), ("RssAnon", "private memory")):
                found = next(line.split()[1] for line in status.splitlines() if line.startswith(word))
                print(f"{meaning} of the server: {int(found) / 1024:.0f} MB")
            opened.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
