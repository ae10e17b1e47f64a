"""Every layout of raw data through ingest, embed and a path; writes ``docs/layouts.md``; ends 1 where one fails.

    python benchmarks/layouts.py [--check]

Each layout is a small screen that the tests' writers make: tifffile, ngio, pandas and OpenCV write the files, under the
names and beside the tables that microscopes and CellProfiler write. Where every cell lies is known, so that cells found
stand beside cells there are. CZI is tried where the extra ``vendor`` is installed. The second half of the page gives
the commands that once went wrong without a word, and what they say now. Nothing on the page is written by hand but what
was said before.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import importlib.util
import io
import json
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import tifffile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.ingest import test_files, test_harmony, test_omezarr, test_vendor  # noqa: E402
from tests.ingest.drawn import SHAPE, draw, grid, write_raw  # noqa: E402
from tests.ingest.test_layouts import COLUMNS, loaddata  # noqa: E402

PAGE = ROOT / "docs" / "layouts.md"
CHANNELS = "DNA=OrigDNA,Tubulin=OrigTub,Actin=OrigAct"
MODEL = "phantom-vaeplus"
Made = tuple[str, int]  # the command that ingests, and how many cells there are


def cytovae(command: str) -> tuple[int, str, str]:
    """One command in this process: its exit status, and what it wrote on stdout and stderr."""
    from cytovae.cli import verbs

    out, err, status = io.StringIO(), io.StringIO(), 0
    words = shlex.split(command)
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            verbs.run()
        except SystemExit as ended:
            status = int(ended.code or 0)
    said = "\n".join(line for line in err.getvalue().splitlines() if "elapsed" not in line and line.strip())
    return status, out.getvalue(), said


# ---- the layouts: each writes its files into the working folder


def plate_map(wells: tuple[tuple[str, str], ...] = test_files.WELLS) -> str:
    table = pd.DataFrame([(w, c, 0 if c == "DMSO" else 0.3) for w, c in wells])
    table.to_csv("map.csv", index=False, header=["well", "compound", "concentration"])
    return "--plate-map map.csv"


def bbbc021() -> Made:
    raw = write_raw(Path("raw"))
    return "cytovae ingest bbbc021 raw my.screen", sum(map(len, raw.truth.values()))


def cellprofiler() -> Made:
    raw = write_raw(Path("raw"))
    loaddata(raw).to_csv("raw/load_data.csv", index=False)
    return f"cytovae ingest loaddata raw/load_data.csv my.screen --channels {CHANNELS}", 36


def image_and_cells_csv() -> Made:
    raw = write_raw(Path("raw"))
    table = loaddata(raw).assign(ImageNumber=np.arange(1, 7))
    image = table.rename(columns={c: f"Image_{c}" for c in table if c.startswith(("FileName_", "PathName_"))})
    image.to_csv("raw/Image.csv", index=False)
    rows = [
        f"{number},{k},{x:.2f},{y:.2f},{40 + k}"
        for number, field in enumerate(table.Metadata_Plate + "/" + table.Metadata_Well + "/s1", start=1)
        for k, (y, x) in enumerate(raw.truth[field], start=1)
    ]
    head = (
        "Image,Cells,Cells,Cells,Cells\nImageNumber,ObjectNumber,Location_Center_X,Location_Center_Y,AreaShape_Area\n"
    )
    Path("raw/Cells.csv").write_text(head + "\n".join(rows) + "\n")
    words = f"cytovae ingest loaddata raw/Image.csv my.screen --channels {CHANNELS} --centres raw/Cells.csv"
    return words, len(rows)


def of_another_machine() -> Made:
    raw = write_raw(Path("raw"))
    table = loaddata(raw)
    for column in COLUMNS.values():
        table[f"PathName_{column}"] = "D:\\screens\\2024\\" + table[f"PathName_{column}"].str.replace("/", "\\")
        table[f"URL_{column}"] = "s3://bucket/" + table[f"FileName_{column}"]
    table.to_csv("load_data.csv.gz", index=False)
    return f"cytovae ingest loaddata load_data.csv.gz my.screen --images raw --channels {CHANNELS}", 36


def by_address() -> Made:
    raw = write_raw(Path("raw"))
    table, site = loaddata(raw), serve(raw.folder)
    for column in COLUMNS.values():
        light = column.replace("Orig", "Illum")
        np.save(raw.folder / f"{light}.npy", np.linspace(1, 2, SHAPE[0])[:, None] * np.ones(SHAPE))
        table[f"PathName_{light}"], table[f"FileName_{light}"] = site, f"{light}.npy"
        table[f"PathName_{column}"] = site + "/" + table[f"PathName_{column}"]
    table.to_csv("load_data.csv.gz", index=False)
    fetched, _, said = cytovae(f"cytovae fetch loaddata load_data.csv.gz images --channels {CHANNELS}")
    if fetched:
        raise RuntimeError(said)
    words = f"--images images --illumination files --channels {CHANNELS}"
    return f"cytovae ingest loaddata load_data.csv.gz my.screen {words}", 36


def serve(folder: Path) -> str:
    """The address of a folder behind an http server, which ends with this process."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder.resolve()))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def frames() -> Made:
    raw = write_raw(Path("raw"))
    table = stacks(raw.folder, loaddata(raw))
    for frame, column in enumerate(COLUMNS.values()):
        table[f"Frame_{column}"] = frame
    table.to_csv("raw/load_data.csv", index=False)
    return f"cytovae ingest loaddata raw/load_data.csv my.screen --channels {CHANNELS}", 36


def stacks(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The channels of each field in one file of three pages; the table that names it for all of them."""
    for i, row in table.iterrows():
        planes = [tifffile.imread(folder / row[f"PathName_{c}"] / row[f"FileName_{c}"]) for c in COLUMNS.values()]
        tifffile.imwrite(folder / f"field{i}.tif", np.stack(planes), photometric="minisblack")
        for column in COLUMNS.values():
            table.loc[i, [f"PathName_{column}", f"FileName_{column}"]] = [".", f"field{i}.tif"]
    return table


def labels() -> Made:
    raw = write_raw(Path("raw"))
    loaddata(raw).to_csv("raw/load_data.csv", index=False)
    for field, centres in raw.truth.items():
        dna = raw.file(field.split("/")[1], plate=field.split("/")[0])
        mask = np.zeros(SHAPE, np.uint16)
        for k, (y, x) in enumerate(centres):
            cv2.circle(mask, (round(x), round(y)), 16, k + 1, -1)
        tifffile.imwrite(dna.with_name(f"{dna.stem}_cp_masks.tif"), mask)
    words = f"cytovae ingest loaddata raw/load_data.csv my.screen --channels {CHANNELS} --labels _cp_masks"
    return words, 36


def named(microscope: str) -> Callable[[], Made]:
    def make() -> Made:
        truth = test_files.write(Path("raw"), microscope)
        called = ",".join(f"{c}={n}" for c, n in test_files.channels(microscope).items())
        words = f"--microscope {shlex.quote(microscope)} --channels {shlex.quote(called)} {plate_map()}"
        return f"cytovae ingest files raw my.screen {words}", 4 * len(truth)

    return make


def harmony(version: int) -> Callable[[], Made]:
    def make() -> Made:
        test_harmony.exported(Path("raw") / "plate__2026-01-01", version)
        called = "DNA=HOECHST 33342,Tubulin=Alexa 488,Actin=Alexa 568"
        words = f"--microscope operetta --channels '{called}' {plate_map((('B02', 'DMSO'), ('C11', 'taxol')))}"
        return f"cytovae ingest files raw my.screen {words}", 8

    return make


def ome_tiff(z: str = "") -> Callable[[], Made]:
    def make() -> Made:
        Path("raw").mkdir()
        for k, (well, _) in enumerate(test_files.WELLS):
            field = np.moveaxis(draw(grid(4, seed=k), seed=k), -1, 0)[[2, 0, 1]]
            axes, pixels = ("CZYX", np.stack([field, field // 2], axis=1)) if z else ("CYX", field)
            about = {"axes": axes, "Channel": {"Name": ["Alexa 568", "Hoechst", "FITC"]}}
            tifffile.imwrite(f"raw/{well}.ome.tif", pixels, metadata=about, ome=True, photometric="minisblack")
        words = "--microscope '(?P<well>[A-Z][0-9]+).ome.tif' --channels 'DNA=Hoechst,Tubulin=FITC,Actin=Alexa 568'"
        return f"cytovae ingest files raw my.screen {words} {z}{plate_map()}", 8

    return make


def czi() -> Made:
    Path("raw").mkdir()
    for k, (well, _) in enumerate(test_files.WELLS):
        pixels = np.moveaxis(draw(grid(4, seed=k), seed=k), -1, 0)[:, None]
        test_vendor.as_zeiss_writes(Path("raw") / f"{well}.czi", pixels, ("Hoechst", "FITC", "Alexa 568"))
    words = "--microscope '(?P<well>[A-Z][0-9]+).czi' --channels 'DNA=Hoechst,Tubulin=FITC,Actin=Alexa 568'"
    return f"cytovae ingest files raw my.screen {words} {plate_map()}", 8


def ome_zarr(version: str, more: str = "") -> Callable[[], Made]:
    def make() -> Made:
        truth = test_omezarr.write(Path("plate.zarr"), version)
        called = ",".join(f"{c}={n}" for c, n in test_omezarr.CHANNELS.items())
        words = f"cytovae ingest ome-zarr plate.zarr my.screen --channels {called} {more}{plate_map()}"
        return words, 4 * len(truth)

    return make


def crops(kind: str) -> Callable[[], Made]:
    def make() -> Made:
        n, rng = 12, np.random.default_rng(0)
        cells = np.stack([draw([(34, 34)], (68, 68), rng.uniform(14, 18), k) for k in range(n)])
        table = pd.DataFrame({"cell_id": [f"c{k}" for k in range(n)], "plate": "P1"})
        table["well"] = np.where(np.arange(n) < n // 2, "A01", "A02")
        table["compound"] = np.where(np.arange(n) < n // 2, "DMSO", "taxol")
        table["concentration_uM"] = np.where(np.arange(n) < n // 2, "", "0.3")
        table.to_csv("cells.csv", index=False)
        if kind == "npz":
            np.savez("cells.npz", images=cells, cell_id=table["cell_id"].to_numpy(str))
        else:
            Path("cells").mkdir()
            for name, cell in zip(table["cell_id"], cells, strict=True):
                path = Path("cells") / f"{name}.{kind}"
                np.save(path, cell) if kind == "npy" else tifffile.imwrite(path, cell)
        images = "cells.npz" if kind == "npz" else "cells"
        return f"cytovae ingest crops my.screen --images {images} --table cells.csv --channels DNA,Tubulin,Actin", n

    return make


LAYOUTS: dict[str, Callable[[], Made]] = {
    "BBBC021, tables and TIFFs of the collection": bbbc021,
    "CellProfiler, LoadData table": cellprofiler,
    "CellProfiler, `Image.csv` and two-row `Cells.csv`": image_and_cells_csv,
    "`load_data.csv.gz` with paths of another machine and addresses": of_another_machine,
    "`load_data.csv.gz` with `http://` addresses and illumination files, after `fetch loaddata`": by_address,
    "Table with pages of one TIFF (`Frame_*`)": frames,
    "Label images beside the fields (`_cp_masks`)": labels,
    "Opera, Operetta: names": named("operetta"),
    "Operetta: Harmony 5, `Index.idx.xml`": harmony(5),
    "Operetta: Harmony 7, `Index.xml`": harmony(7),
    "ImageXpress: names": named("imagexpress"),
    "InCell: names": named("incell"),
    "Names of your own": named(r"(?P<plate>\w+)-(?P<well>[A-H]\d+)-(?P<site>\d)-(?P<channel>\w+)\.tif"),
    "OME-TIFF, all channels in a file": ome_tiff(),
    "OME-TIFF, channels and z-planes in a file": ome_tiff("--z max "),
    **({"CZI, all channels in a file": czi} if importlib.util.find_spec("bioio_czi") else {}),
    "OME-Zarr plate, NGFF 0.4": ome_zarr("0.4"),
    "OME-Zarr plate, NGFF 0.5, patches on demand": ome_zarr("0.5", "--patches on-demand "),
    "Crops, npz": crops("npz"),
    "Crops, a folder of npy": crops("npy"),
    "Crops, a folder of TIFF": crops("tif"),
}


def through(make: Callable[[], Made]) -> dict[str, object]:
    """One layout through three verbs: the command, cells found and there, cells embedded, steps of a path."""
    command, there = make()
    one = "" if "ingest crops" in command else " --workers 1"
    status, out, said = cytovae(f"{command}{one} --json")
    row: dict[str, object] = {"command": command, "there": there, "found": 0, "embedded": "-", "path": "-"}
    if status:
        return row | {"failed": said}
    row["found"] = json.loads(out)["cells"]
    status, out, said = cytovae(f"cytovae embed my.screen {MODEL} --device cpu --json")
    if status:
        return row | {"failed": said}
    row["embedded"] = len(pd.read_parquet(f"my.screen/embeddings/{MODEL}/index.parquet"))
    status, out, said = cytovae(f"cytovae interpolate my.screen {MODEL} --treatment taxol@0.3 --steps 3 --json")
    if status:
        return row | {"failed": said}
    return row | {"path": f"{len(json.loads(out)['steps'])} steps"}


# ---- what went wrong without a word


def one_file() -> None:
    raw = write_raw(Path("raw"))
    stacks(raw.folder, loaddata(raw)).to_csv("raw/load_data.csv", index=False)


def trained() -> None:
    ingested()
    cytovae("cytovae train my.screen models/mine --model pca")


def raw_fields() -> None:
    write_raw(Path("raw"))


def ingested() -> None:
    raw_fields()
    cytovae("cytovae ingest bbbc021 raw my.screen --workers 1")


def spelled() -> None:
    crops("npz")()
    table = pd.read_csv("cells.csv", keep_default_na=False)
    table.replace({"compound": {"DMSO": "dmso"}}).to_csv("cells.csv", index=False)


def magnified() -> None:
    from cytovae.fields import rescaled

    for path in write_raw(Path("raw")).folder.glob("*/*/*.tif"):
        tifffile.imwrite(path, rescaled(tifffile.imread(path)[..., None], 2)[..., 0])


def lines() -> None:
    raw = write_raw(Path("raw"))
    table = loaddata(raw)
    table["Metadata_Cell_Line"] = np.where(table["Metadata_Plate"] == "Week1_001", "MCF7", "U2OS")
    table.to_csv("raw/load_data.csv", index=False)


def provenance() -> None:
    ingested()
    Path("theirs.py").write_text(
        "import numpy as np\n"
        "\n"
        "from cytovae.screen import Screen, provenance\n"
        "\n"
        'screen = Screen.open("my.screen")\n'
        'ids = screen.cells()["cell_id"].to_list()\n'
        'screen.write_embeddings("theirs", ids, np.zeros((len(ids), 4), np.float32), provenance("embed"))\n'
    )


def other_channels() -> None:
    Path("raw").mkdir()
    cells = np.stack([draw([(34, 34)], (68, 68), 16, k)[..., :2] for k in range(12)])
    crops("npz")()
    np.savez("cells.npz", images=cells)
    cytovae("cytovae ingest crops my.screen --images cells.npz --table cells.csv --channels DNA,Tubulin")


LOADDATA = f"cytovae ingest loaddata raw/load_data.csv my.screen --channels {CHANNELS}"
CROPS = "cytovae ingest crops my.screen --images cells.npz --table cells.csv --channels DNA,Tubulin,Actin"
ZSTACK = (
    "cytovae ingest files raw my.screen --microscope '(?P<well>[A-Z][0-9]+).ome.tif' "
    "--channels 'DNA=Hoechst,Actin=Alexa 568' --plate-map map.csv"
)
MENDS: list[tuple[str, str, Callable[[], object], str, int]] = [
    (
        "Several channels in one file",
        "read page 0 for all: three identical channels, status 0",
        one_file,
        LOADDATA,
        1,
    ),
    ("A z-stack", "read plane 0", ome_tiff("--z max "), ZSTACK, 1),
    (
        "Addresses and paths of another machine",
        "an address hid the row's files, and paths were not looked for under `--images`",
        of_another_machine,
        f"cytovae ingest loaddata load_data.csv.gz my.screen --images raw --channels {CHANNELS}",
        0,
    ),
    (
        "Another training into a finished bundle",
        '"finished already", whatever was asked',
        trained,
        "cytovae train my.screen models/mine --model vae+ --iterations 60",
        1,
    ),
    ("Controls without a concentration", "all dropped", crops("npz"), CROPS, 0),
    ("A control of another spelling", "a screen without controls", spelled, CROPS, 1),
    (
        "Images of twice the magnification",
        "patches that show the nucleus and no cell around it",
        magnified,
        "cytovae ingest bbbc021 raw my.screen",
        2,
    ),
    ("Two cell lines in one table", "merged to one treatment", lines, LOADDATA, 1),
    (
        "A screen of too few wells to spare one",
        'none held out, and nothing said so; after 60 iterations "every step is as near to a real cell"',
        ingested,
        "cytovae train my.screen models/mine --model pca",
        0,
    ),
    (
        "A model of other channels",
        "the app advised embedding with it",
        other_channels,
        f"cytovae embed my.screen {MODEL}",
        1,
    ),
    ("Treatments counted", "`info` and app counted differently", ingested, "cytovae info my.screen", 0),
    (
        "An option that makes no sense",
        "exit status 1, which is that of work that failed",
        raw_fields,
        "cytovae ingest bbbc021 raw my.screen --rescale large",
        2,
    ),
]


def mended(make: Callable[[], object], command: str) -> tuple[int, str]:
    """What a command ends with and says now."""
    make()
    status, out, said = cytovae(command + (" --workers 1" if re.search("ingest (bbbc|load|files)", command) else ""))
    return status, "\n".join(part for part in (said.strip(), out.strip()) if part)


def written() -> tuple[str, list[str]]:
    """The page, and what failed."""
    failed, rows, commands = [], [], []
    for name, make in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            row = through(make)
        whole = "failed" not in row and row["found"] == row["there"] == row["embedded"]
        if not whole:
            failed.append(f"{name}: {row}")
        rows.append(f"| {name} | {row['found']} / {row['there']} | {row['embedded']} | {row['path']} |")
        commands.append(f"{name}:\n\n```bash\n{row['command']}\n```\n")
        print(rows[-1], flush=True)
    mends = []
    for name, before, make, command, wanted in MENDS:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            status, said = mended(make, command)
        if status != wanted:
            failed.append(f"{name}: exit status {status}, not {wanted}: {said}")
        mends.append(
            f"**{name}**. Before: {before}.\n\n```bash\n{command}\n```\n\nNow, with exit status {status}:\n\n"
            f"```text\n{said}\n```\n"
        )
        print(f"{name}: {status}", flush=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        provenance()
        said = refusal("theirs.py")
        script = Path("theirs.py").read_text()
    mends.append(
        "**Embeddings with provenance that the reader refuses**. Before: written, and refused when read.\n\n"
        f"```python\n{script}```\n\nNow:\n\n```text\n{said}\n```\n"
    )
    return PAGE_TEXT.format(
        rows="\n".join(rows), commands="\n".join(commands), mends="\n".join(mends), model=MODEL, n=len(LAYOUTS)
    ), failed


def refusal(script: str) -> str:
    """With what error a script of the working folder ends."""
    from cytovae.errors import CytovaeError

    try:
        exec(compile(Path(script).read_text(), script, "exec"), {})
    except CytovaeError as refused:
        return f"{type(refused).__name__}: {refused}"
    return "nothing"


PAGE_TEXT = """# Layouts that were tried

`benchmarks/layouts.py` wrote this page: it makes a small screen of each layout, runs the commands below on it and
counts. The files are made by the formats' own writers (tifffile, ngio, Zeiss's pylibCZIrw, OpenCV, numpy), named and
described as microscopes and CellProfiler do it; no file of a real instrument is among them. Cells are discs of 34 px,
apart from each other, so every one of them should be found: the column gives cells found / cells there are. Each screen
is then embedded with `{model}`, and a path of three steps is drawn from a control to taxol at 0.3 uM.

| layout | cells ingested | embedded | path |
|---|---|---|---|
{rows}

Then, for each of them: `cytovae embed my.screen {model}` and
`cytovae interpolate my.screen {model} --treatment taxol@0.3 --steps 3 --json`.

## The commands

{commands}
## Once wrong without a word

{mends}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write no page")
    asked = parser.parse_args()
    page, wrong = written()
    if not asked.check:
        PAGE.write_text(page)
    for line in wrong:
        print(f"FAILED {line}")
    sys.exit(1 if wrong else 0)
