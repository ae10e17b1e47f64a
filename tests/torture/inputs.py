"""Bad input: real files, changed, and tables, documents and arguments made up; each by a seed."""

from __future__ import annotations

import csv
import enum
import functools
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from . import trial
from .trial import Attack, Ended, judge, verb

ROOT = Path(__file__).resolve().parents[2]
Rng = np.random.Generator
csv.field_size_limit(2**31 - 1)
SIZE = 16
CHANNELS = "DNA,Tubulin,Actin"
NASTY = (
    "",
    " ",
    "\t",
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "<script>alert(1)</script>",
    "**bold** [x](javascript:alert(1)) $x$",
    "../../etc/passwd",
    "/absolute",
    "a/b\\c",
    "nul\0nul",
    "line\nbreak",
    "carriage\rreturn",
    "\x1b[31mred",
    "é̈\u202eright to left",
    "\ud800",
    "NaN",
    "inf",
    "-inf",
    "1e309",
    "-1",
    "0",
    "1e-400",
    "99999999999999999999",
    "1,5",
    "None",
    "null",
    "file",
    "x" * 2000,
    "x" * 1_000_000,
    "'quoted'",
    '"',
    "🙂",
)


# ---------------------------------------------------------------------------------------------------------- bytes
def mutated(content: bytes, rng: Rng) -> bytes:
    """Some bytes of a file turned, cut off, doubled, moved, or replaced by numbers at the edges of their range."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not data:
            break
        at = int(rng.integers(len(data)))
        if rng.random() < 0.5:  # heads are small and matter more
            at = int(rng.integers(min(len(data), 300)))
        length = int(rng.integers(1, 40))
        match int(rng.integers(7)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                del data[at:]
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + length] = bytes(rng.integers(0, 256, length, dtype=np.uint8))
            case 5:
                edge = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
                data[at : at + 4] = bytes(edge)
            case 6:
                data[at : at + length] = bytes(length)
    return bytes(data)


class Canary:
    """Unpickling it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("unpickled",)


def _head(shape: str, descr: str = "'<u2'", order: str = "False") -> bytes:
    """The head of an npy file that claims what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (118 - len(text) % 64 if len(text) > 117 else 117 - len(text)) + "\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode()


# ---------------------------------------------------------------------------------------------------------- crops
def crops(rng: Rng, n: int = 3, size: int = SIZE) -> np.ndarray:
    """(n, size, size, 3) uint16 cells."""
    y, x = np.mgrid[:size, :size] - size / 2
    blob = np.exp(-(x**2 + y**2) / 20)[None, :, :, None]
    return (300 + 3000 * blob + rng.integers(0, 40, (n, size, size, 3))).astype(np.uint16)


def crop_table(path: Path, n: int = 3, **changed: list[str]) -> None:
    """Its table."""
    columns = {
        "cell_id": [f"c{i}" for i in range(n)],
        "plate": ["P1"] * n,
        "well": [f"A{i + 1:02d}" for i in range(n)],
        "compound": ["DMSO", *(f"drug{i}" for i in range(1, n))],
        "concentration_uM": ["0", *("0.5" for _ in range(1, n))],
        "moa": ["none"] * n,
        **changed,
    }
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def ingest(images: str, table: str = "table.csv", *more: str) -> Ended:
    return verb(
        *("ingest", "crops", "out.screen", "--images", images, "--table", table, "--channels", CHANNELS),
        *("--patch-size-px", SIZE, "--rescale", "none", *more),
    )


def whole(folder: Path, ended: Ended, *inputs: str) -> tuple[str, str]:
    """The verdict, after a look at what lies in the folder."""
    fate, said = judge(ended)
    if (folder / "unpickled").exists():
        return "wrong", "something was unpickled"
    expected = {*inputs, *(["out.screen"] if ended.status == 0 else [])}
    if fate in ("refused", "accepted") and (there := trial.left(folder, *expected)):
        return "leftovers", there
    return fate, said


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def _tiff(pixels: np.ndarray, **how: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(out, pixels, **how)
    return out.getvalue()


def _npy(array: np.ndarray, pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=pickle)
    return out.getvalue()


def odd_image(pixels: np.ndarray, rng: Rng, suffix: str) -> bytes:
    """A file that is whole and yet not what is wanted, or is in another of its format's ways."""
    if suffix == ".npy":
        kinds: list[Callable[[], bytes]] = [
            lambda: _npy(np.array([Canary()] * 3, object), pickle=True),
            lambda: _npy(pixels.astype(rng.choice(["u1", "i2", "f4", "f8", "c8", "?", "S3", "M8[s]"]))),
            lambda: _npy(np.full(pixels.shape, np.nan, np.float32)),
            lambda: _npy(pixels[..., :2]),
            lambda: _npy(pixels[:0]),
            lambda: _npy(np.asfortranarray(pixels)),
            lambda: _npy(pixels.astype(">u2")),
            lambda: _head(str(rng.choice(["(10**6, 10**6, 3)", "(99999999999, 3)", "(1000000000000,)", "(-1, 3)"]))),
            lambda: _head("(16, 16, 3)", descr="'|O'") + b"cposix\nmkdir\n(S'unpickled'\ntR." * 40,
            lambda: _head("__import__('os').mkdir('unpickled')"),
            lambda: _head("(" * 500),
        ]
    else:
        kinds = [
            lambda: _tiff(pixels.astype(rng.choice(["u1", "i2", "f4", "f8", "u4"]))),
            lambda: _tiff(np.full(pixels.shape, np.nan, np.float32)),
            lambda: _tiff(pixels, photometric="rgb"),
            lambda: _tiff(np.moveaxis(pixels, -1, 0), photometric="minisblack"),
            lambda: _tiff(pixels, bigtiff=True),
            lambda: _tiff(pixels, compression=str(rng.choice(["zlib", "lzw", "zstd"]))),
            lambda: _tiff(np.stack([pixels] * 3), photometric="rgb"),
            lambda: _tiff(pixels, byteorder=">"),
            lambda: _tiff(pixels, tile=(16, 16)),
            lambda: mutated_tag(_tiff(pixels), rng),
        ]
    return kinds[int(rng.integers(len(kinds)))]()


def mutated_tag(content: bytes, rng: Rng) -> bytes:
    """A TIFF of which one entry says something else: width, height, bits, offsets, counts."""
    data = bytearray(content)
    first = int.from_bytes(data[4:8], "little")
    n = int.from_bytes(data[first : first + 2], "little")
    entry = first + 2 + 12 * int(rng.integers(n))
    where = int(rng.choice([0, 2, 4, 8]))
    value = int(rng.choice([0, 1, 2, 3, 7, 16, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, first]))
    size = 2 if where < 4 else 4
    data[entry + where : entry + where + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(data)


def place(path: Path, content: bytes, rng: Rng) -> None:
    """A file, or now and then something that is none."""
    match int(rng.integers(24)):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path.name)  # to itself
        case 3:
            path.symlink_to("nowhere")
        case 4:
            path.write_bytes(b"")
        case 5:
            path.with_name("elsewhere").write_bytes(content)
            path.symlink_to("elsewhere")
        case _:
            path.write_bytes(content)


def _read_anew(path: Path) -> np.ndarray:
    """The pixels of an image by the plainest means there are."""
    if path.suffix == ".npy":
        return np.load(path)
    return np.asarray(Image.open(path)) if path.suffix == ".png" else tifffile.imread(path)


def images(suffix: str) -> Callable[[Rng, Path], tuple[str, str]]:
    """One of three cells' files is changed; what is taken must be what another reader finds, the others unharmed."""

    def act(rng: Rng, folder: Path) -> tuple[str, str]:
        pixels = crops(rng)
        (folder / "cells").mkdir()
        for i, crop in enumerate(pixels):
            good = _npy(crop) if suffix == ".npy" else _tiff(crop, photometric="rgb")
            path = folder / "cells" / f"c{i}{suffix}"
            if suffix == ".png":
                good = _png((crop >> 4).astype(np.uint8))
            if i != 1:
                path.write_bytes(good)
                continue
            odd = suffix != ".png" and rng.random() < 0.4
            place(path, odd_image(crop, rng, suffix) if odd else mutated(good, rng), rng)
        crop_table(folder / "table.csv")
        ended = ingest("cells", "table.csv", *(["--bit-depth", "8"] if suffix == ".png" else []))
        fate, said = whole(folder, ended, "cells", "table.csv")
        if fate != "accepted":
            return ("wrong", f"two good cells were lost: {said}") if fate == "refused" else (fate, said)
        from cytovae.patches import PatchStore
        from cytovae.screen import Screen

        screen = Screen.open(folder / "out.screen")
        ids = screen.cells()["cell_id"].tolist()
        got = PatchStore(screen.patches_path).read(np.arange(len(ids)))
        if not {"c0", "c2"} <= {*ids}:
            return "wrong", f"good cells were lost: {ids}"
        for i, cell in enumerate(ids):
            expected = _read_anew(folder / "cells" / f"{cell}{suffix}")
            if expected.shape == (3, SIZE, SIZE):
                expected = np.moveaxis(expected, 0, -1)
            if not np.array_equal(got[i], expected):
                return "wrong", f"{cell} holds other pixels than its file"
        return fate, said

    return act


def fields(rng: Rng, folder: Path) -> tuple[str, str]:
    """The reader of fields on a plane that was changed, against tifffile's own reading."""
    from cytovae import images as reader
    from cytovae.errors import ImageError

    plane = rng.integers(200, 4000, (24, 32)).astype(np.uint16)
    how: dict[str, Any] = [
        {},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "lzw"},
        {"predictor": True, "compression": "zlib"},
        {"imagej": True},
        {"ome": True},
        {"rowsperstrip": 4},
        {"byteorder": ">"},
    ][int(rng.integers(9))]
    content = _tiff(plane, **how)
    content = mutated_tag(content, rng) if not how and rng.random() < 0.5 else mutated(content, rng)
    path = folder / "a.tif"
    place(path, content, rng)
    try:
        got = reader.read_field({"DNA": path})[..., 0]
    except ImageError as refused:
        return ("refused", str(refused)) if "\n" not in str(refused) else ("wrong", f"not one sentence: {refused!r}")
    try:
        with tifffile.TiffFile(path) as opened:
            expected = opened.pages[0].asarray()
    except Exception as broken:
        return "wrong", f"read what tifffile cannot: {broken}"
    return ("accepted", "") if np.array_equal(got, expected) else ("wrong", "other pixels than tifffile's")


def arrays(rng: Rng, folder: Path) -> tuple[str, str]:
    """An npz or npy of crops, changed or made up."""
    pixels = crops(rng)
    ids = np.array(["c0", "c1", "c2"])
    out = io.BytesIO()
    name = "cells.npz" if rng.random() < 0.75 else "cells.npy"
    kind = int(rng.integers(13))
    if kind == 12:  # as it should be
        np.savez(out, images=pixels, cell_id=ids)
        name, content = "cells.npz", out.getvalue()
    elif name == "cells.npy":
        content = mutated(_npy(pixels), rng) if kind < 6 else odd_image(pixels, rng, ".npy")
    elif kind < 6:
        (np.savez if kind < 3 else np.savez_compressed)(out, images=pixels, cell_id=ids)
        content = mutated(out.getvalue(), rng)
    else:
        member = _npy(pixels)
        extra: dict[str, bytes] = {}
        if kind == 6:
            extra["../../unpickled"] = b"x"
        elif kind == 7:
            member = odd_image(pixels, rng, ".npy")
        elif kind == 8:
            member = _head("(1000000000000, 16, 16, 3)") + bytes(99)
        elif kind == 9:
            extra["cell_id.npy"] = _npy(np.array([Canary(), 1, 2], object), pickle=True)
        elif kind == 10:
            extra["more.npy"] = member
        else:
            extra["cell_id.npy"] = _head("(99999999999,)", "'<U9'")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy" if kind != 10 else "a.npy", member)
            for key, value in extra.items():
                archive.writestr(key, value)
        content = out.getvalue()
    if kind == 12:
        (folder / name).write_bytes(content)
    else:
        place(folder / name, content, rng)
    crop_table(folder / "table.csv")
    ended = ingest(name)
    fate, said = whole(folder, ended, name, "elsewhere", "table.csv")
    if kind == 12 and fate == "refused":
        return "wrong", f"a good array was refused: {said}"
    if fate != "accepted":
        return fate, said
    from cytovae.patches import PatchStore
    from cytovae.screen import Screen

    screen = Screen.open(folder / "out.screen")
    rows = [int(cell[1:]) for cell in screen.cells()["cell_id"]]
    held = np.load(folder / name)
    expected = held if isinstance(held, np.ndarray) else held["images" if "images" in held else held.files[0]]
    if not isinstance(held, np.ndarray) and "cell_id" in held:
        rows = [list(held["cell_id"]).index(f"c{i}") for i in rows]
    if expected.shape[1:] == (3, SIZE, SIZE):
        expected = np.moveaxis(expected, 1, -1)
    same = np.array_equal(PatchStore(screen.patches_path).read(np.arange(len(rows))), expected[rows])
    return (fate, said) if same else ("wrong", "other pixels than numpy reads")


# --------------------------------------------------------------------------------------------------------- plates
def write_plates(folder: Path) -> None:
    """Two OME-Zarr plates of two wells, of either version, as ngio writes them."""
    import ngio

    wells = [("B", "02"), ("C", "11")]
    for version in ("0.4", "0.5"):
        listed = [ngio.ImageInWellPath(row=r, column=c, path="0") for r, c in wells]
        plate = ngio.create_empty_plate(folder / version, name="P1", images=listed, ngff_version=version)
        for k, (row, column) in enumerate(wells):
            pixels = np.random.default_rng(k).integers(200, 4000, (3, 24, 32)).astype(np.uint16)
            ngio.create_ome_zarr_from_array(
                plate.get_image_store(row, column, "0"),
                pixels,
                pixelsize=0.65,
                axes_names="cyx",
                channels_meta=CHANNELS.split(","),
                levels=1,
                ngff_version=version,
                consolidation_mode="numpy",
            )


def plates(self: Material, rng: Rng, folder: Path) -> tuple[str, str]:
    """An OME-Zarr plate of which one file was changed: what is taken of it is what zarr reads, channel by channel."""
    import zarr

    from cytovae import images as reader
    from cytovae.errors import CytovaeError, ImageError
    from cytovae.ingest import layouts
    from cytovae.ingest.layouts import tables as columns

    raw = folder / "a.zarr"
    shutil.copytree(self.plates / str(rng.choice(["0.4", "0.5"])), raw)
    files = sorted(p for p in raw.rglob("*") if p.is_file())
    heads = [p for p in files if p.suffix == ".json" or p.name.startswith(".z")]
    some = heads if rng.random() < 0.7 else files
    victim = some[int(rng.integers(len(some)))]
    spoil(victim, rng)
    seen = victim.relative_to(folder)
    if rng.random() < 0.15:
        words = ("ingest", "ome-zarr", "a.zarr", "out.screen", "--workers", "1", "--channels")
        fate, said = judge(verb(*words, ",".join(f"{c}={c}" for c in CHANNELS.split(","))))
        made = {p.name for p in folder.iterdir()} - {
            "a.zarr",
            "elsewhere",
            *(["out.screen"] if fate == "accepted" else []),
        }
        return ("leftovers", str(made)) if made else (fate, f"{seen}: {said}")
    try:
        layout = layouts.omezarr.read(raw, {c: c for c in CHANNELS.split(",")})
    except CytovaeError as refused:
        return ("refused", str(refused)) if "\n" not in str(refused) else ("wrong", f"not one sentence: {refused!r}")
    fate = "refused"
    for row in layout.fields.to_dict("records"):
        if row["status"] != columns.OK:
            continue
        for channel in layout.channels:
            path = raw / row[columns.path_column(channel)]
            try:
                got = reader.read_plane(path, reader.Plane(names=(channel,)), shared=True)
            except ImageError as refused:
                if "\n" in str(refused):
                    return "wrong", f"{seen}: not one sentence: {refused!r}"
                continue
            fate, head = "accepted", path / "zarr.json"
            said = json.loads((head if head.is_file() else path / ".zattrs").read_text())
            said = said["attributes"]["ome"] if head.is_file() else said
            labels = [str(each.get("label", "")).lower() for each in said["omero"]["channels"]]
            array = np.asarray(zarr.open_array(path / said["multiscales"][0]["datasets"][0]["path"], mode="r"))
            if labels.count(channel.lower()) != 1 or not np.array_equal(got, array[labels.index(channel.lower())]):
                return "wrong", f"{seen}: other pixels of {channel} than zarr's"
    return fate, str(seen)


def clusters(self: Material, rng: Rng, folder: Path) -> tuple[str, str]:
    """Addresses of clusters and shares of work that make no sense, at the verbs that take them."""
    shutil.copytree(self.screen, folder / "a.screen")
    os.mkfifo(folder / "pipe")
    (folder / "file").write_bytes(mutated(b'{"type": "Scheduler", "address": "tcp://127.0.0.1:9", "workers": {}}', rng))
    pool = [
        "local:",
        "local:0",
        "local:-1",
        "local:x",
        "local:1e9",
        "local:" + "9" * 30,
        "slurm:0",
        "slurm:",
        "slurm:x",
    ]
    pool += [
        "tcp://",
        "tcp://:",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:x",
        "tls://127.0.0.1:9",
    ]
    pool += ["tcp://[::1", "://", "x://y", "ucx://1", "inproc://a/b/c", "ws://127.0.0.1:9", "http://127.0.0.1:9"]
    pool += [
        "file",
        "pipe",
        "a.screen",
        "nowhere",
        "/",
        "../file",
        *(n for n in NASTY if "\0" not in n and len(n) < 99),
    ]
    shares = ["0/1", "2/1", "1/0", "-1/2", "1/2/3", "a/b", "1", "/", "1/" + "9" * 5000, "1.0/2", "٣/٤", " 1/2", "1/2 "]
    address = str(rng.choice(np.array([p for p in pool if "\ud800" not in p], object)))
    words = ["embed", "a.screen", self.bundle, "--overwrite", "--cluster", address]
    if rng.random() < 0.3:
        words[-2:] = ["--shard", str(rng.choice(np.array(shares, object)))]
    ended = verb(*words)
    fate, said = judge(ended)
    return ("wrong" if fate == "accepted" and "--cluster" in words else fate), f"{words[-2:]}: {said:.500}"


# --------------------------------------------------------------------------------------------------------- tables
def tables(rng: Rng, folder: Path) -> tuple[str, str]:
    """The table of crops: cells, columns, encodings and bytes changed; names must arrive as they are written."""
    np.savez(folder / "cells.npz", images=crops(rng), cell_id=np.array(["c0", "c1", "c2"]))
    path = folder / "table.csv"
    crop_table(path)
    kind = int(rng.integers(8))
    if kind < 3:  # cells
        rows = list(csv.reader(path.open(newline="")))
        for _ in range(int(rng.integers(1, 4))):
            rows[int(rng.integers(1, 4))][int(rng.integers(6))] = str(rng.choice(np.array(NASTY, object)))
        with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
            csv.writer(handle).writerows(rows)
    elif kind == 3:  # columns
        rows = list(csv.reader(path.open(newline="")))
        at, to = int(rng.integers(6)), int(rng.integers(6))
        match int(rng.integers(5)):
            case 0:
                rows = [[*row, row[at]] for row in rows]
            case 1:
                rows = [row[:at] + row[at + 1 :] for row in rows]
            case 2:
                rows = [rows[0], *([*row, "more"] for row in rows[1:])]
            case 3:
                rows[0][at] = rows[0][to]
            case 4:
                rows[1 + at % 3] = rows[1 + at % 3][:to]
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows(rows)
    elif kind == 4:  # encodings
        text = path.read_text().replace("drug1", "µ-drüg")
        code = str(rng.choice(["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-8", "cp1252", "utf-16-le"]))
        path.write_bytes(text.encode(code))
    else:
        content = mutated(path.read_bytes(), rng)
        path.unlink()
        place(path, content, rng)
    ended = ingest("cells.npz")
    fate, said = whole(folder, ended, "cells.npz", "table.csv", "elsewhere")
    if fate != "accepted":
        return fate, said
    from cytovae.screen import Screen

    cells = Screen.open(folder / "out.screen").cells()
    with path.open(newline="", encoding="utf-8-sig") as handle:
        written = list(csv.DictReader(handle))
    for cell in cells.to_dict("records"):
        rows_of = [row for row in written if row["cell_id"] == cell["cell_id"]]
        row = rows_of[0] if rows_of else {}
        for theirs, ours in (("plate", "Plate"), ("well", "Well"), ("compound", "Compound")):
            if row.get(theirs) != cell[f"Metadata_{ours}"]:
                return "wrong", f"{theirs} {row.get(theirs)!r:.80} became {cell[f'Metadata_{ours}']!r:.80}"
        if row["compound"] != "DMSO" and not np.isclose(
            float(row["concentration_uM"]), cell["Metadata_Concentration"], rtol=1e-12, atol=0
        ):
            return "wrong", f"{row['concentration_uM']!r} uM became {cell['Metadata_Concentration']!r}"
    return fate, said


def _make_material(screen: Path, bundle: Path, plates: Path, words: list[object]) -> None:
    """A screen of crops with a model of it, embedded and profiled, and OME-Zarr plates."""
    for command in (
        ["ingest", "crops", screen, *words, "--patch-size-px", 36],
        ["train", screen, bundle, "--model", "pca"],
        ["embed", screen, bundle],
        ["profile", screen, "pca", "--no-maps"],
    ):
        ended = verb(*command)
        if ended.status:
            print(command, ended.err, ended.broke, flush=True)
            sys.exit(1)
    write_plates(plates)


class Material:
    """A screen with embeddings and a bundle, made once and copied for each trial."""

    def __init__(self, folder: Path) -> None:

        import cytovae.learn.foreign
        import cytovae.learn.linear
        import cytovae.learn.train
        import cytovae.profiling.study  # noqa: F401  (all of them once, not in every child)

        trial.warm()

        rng = np.random.default_rng(0)
        n = 12
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "cells.npz", images=crops(rng, n, 36), cell_id=np.array([f"c{i}" for i in range(n)]))
        drugs = ["DMSO"] * 6 + ["taxol"] * 3 + ["emetine"] * 3
        wells = [f"A{1 + i % 3:02d}" for i in range(6)] + [f"B{1 + i % 3:02d}" for i in range(6)]
        wells = [w if d != "emetine" else w.replace("B", "C") for w, d in zip(wells, drugs, strict=True)]
        crop_table(
            folder / "table.csv",
            n,
            compound=drugs,
            well=wells,
            concentration_uM=["0"] * 6 + ["0.5"] * 6,
            plate=[f"P{1 + i % 2}" for i in range(n)],
        )
        words = ["--images", folder / "cells.npz", "--table", folder / "table.csv", "--channels", CHANNELS]
        words += ["--rescale", "none"]
        self.screen, self.bundle, self.plates = folder / "a.screen", folder / "pca", folder / "plates"
        # In a process that begins anew: no thread of it is there when trials fork, and none of ours is missing in it.
        making = multiprocessing.get_context("spawn").Process(
            target=_make_material, args=(self.screen, self.bundle, self.plates, words)
        )
        making.start()
        making.join()
        assert making.exitcode == 0

    def imports(self, rng: Rng, folder: Path) -> tuple[str, str]:
        """Embeddings from elsewhere: parquet, CSV and npz, changed; what is taken must be what another reader finds."""
        import pandas as pd
        import pyarrow.parquet as pq

        from cytovae.screen import Screen

        shutil.copytree(self.screen, folder / "a.screen")
        before = trial.left(folder)
        ids = Screen.open(self.screen).cells()["cell_id"].tolist()
        values = rng.normal(size=(len(ids), 3)).astype(np.float32).round(3)
        frame = pd.DataFrame({"cell_id": ids, **{f"f{k}": values[:, k] for k in range(3)}})
        suffix = str(rng.choice([".parquet", ".csv", ".npz"]))
        path = folder / f"e{suffix}"
        if rng.random() < 0.3:
            frame = _odd_frame(frame, rng)
        try:
            if suffix == ".parquet":
                frame.to_parquet(path)
            elif suffix == ".csv":
                frame.to_csv(path, index=False)
            else:
                np.savez(path, cell_id=frame["cell_id"].to_numpy(str), embeddings=frame.iloc[:, 1:].to_numpy())
        except Exception:
            return "refused", "it could not be written"
        content = path.read_bytes()
        path.unlink()
        place(path, mutated(content, rng) if rng.random() < 0.7 else content, rng)
        ended = verb("import", "embeddings", "a.screen", path.name, "--name", "other")
        fate, said = judge(ended)
        if (folder / "unpickled").exists():
            return "wrong", "something was unpickled"
        if fate == "refused" and trial.left(folder, path.name, "elsewhere") != before.replace(path.name, ""):
            there = {*trial.left(folder, path.name, "elsewhere").split(", ")} - {*before.split(", ")}
            return ("leftovers", ", ".join(there)) if there else (fate, said)
        if fate != "accepted":
            return fate, said
        cells, got = Screen.open(folder / "a.screen").embeddings("other")
        if suffix == ".npz":
            held = np.load(path)
            expected = dict(zip(held["cell_id"].tolist(), held["embeddings"], strict=True))
        elif suffix == ".csv":
            rows = list(csv.DictReader(path.open(newline="", encoding="utf-8-sig")))
            names = [n for n in rows[0] if n and n != "cell_id" and not n.startswith("Metadata_")]
            expected = {row["cell_id"]: [float(row[n]) for n in names] for row in rows}
        else:
            read = pq.read_table(path).to_pandas()
            expected = {r.pop("cell_id"): list(r.values()) for r in read.to_dict("records")}
        for cell, values_of in zip(cells["cell_id"], got, strict=True):
            if not np.allclose(values_of, np.asarray(expected[cell], np.float32), equal_nan=True):
                return "wrong", f"{cell} became {values_of}, its file says {expected[cell]}"
        return fate, said

    def folders(self, rng: Rng, folder: Path) -> tuple[str, str]:
        """A screen of which one file was changed, under the verbs that read it: nothing is lost of the others."""
        shutil.copytree(self.screen, folder / "a.screen")
        files = sorted(p for p in (folder / "a.screen").rglob("*") if p.is_file() and p.suffix != ".npy")
        victim = files[int(rng.integers(len(files)))]
        spoil(victim, rng)
        command = [
            ["info", "a.screen"],
            ["profile", "a.screen", "pca", "--no-maps", "--overwrite"],
            ["export", "a.screen", "out.parquet", "--to", "parquet", "--bundle", "pca"],
            ["embed", "a.screen", self.bundle],
            ["export", "a.screen", "out", "--to", "crops"],
        ][int(rng.integers(5))]
        ended = verb(*command)
        fate, said = judge(ended)
        there = trial.left(folder, "a.screen", *(("out.parquet", "out") if ended.status == 0 else ()))
        if fate in ("refused", "accepted") and there:
            return "leftovers", f"{' '.join(map(str, command))}: {there}"
        return fate, f"{' '.join(map(str, command))}; {victim.relative_to(folder)}: {said}"

    def bundles(self, rng: Rng, folder: Path) -> tuple[str, str]:
        """A bundle of which one file was changed is not used; and looking at it is no danger."""
        shutil.copytree(self.bundle, folder / "pca")
        files = sorted(p for p in (folder / "pca").iterdir() if p.is_file())
        victim = files[int(rng.integers(len(files)))]
        before = victim.read_bytes()
        spoil(victim, rng)
        changed = not victim.is_file() or victim.read_bytes() != before
        if rng.random() < 0.3:
            return judge(verb("info", "pca"))
        shutil.copytree(self.screen, folder / "a.screen")
        fate, said = judge(verb("embed", "a.screen", "pca", "--overwrite"))
        if fate == "accepted" and changed and victim.suffix != ".json":
            return "wrong", f"{victim.name} was changed and the bundle used"
        if fate == "accepted" and victim.suffix == ".json" and victim.name == "metrics.json" and changed:
            return "wrong", "metrics.json was changed and the bundle used"
        return fate, said

    def crafted(self, rng: Rng, folder: Path) -> tuple[str, str]:
        """A bundle whose digests fit and whose content does not."""
        import safetensors.numpy

        from cytovae.learn import bundle

        shutil.copytree(self.bundle, folder / "pca")
        config = json.loads((folder / "pca" / "config.json").read_text())
        arrays = safetensors.numpy.load_file(folder / "pca" / "weights.safetensors")
        trained = arrays.pop("trained_on")
        key = str(rng.choice([*config]))
        config[key] = odd_value(rng, config[key])
        if rng.random() < 0.5:
            name = str(rng.choice([*arrays]))
            arrays[name] = [arrays[name][:1], arrays[name].astype(np.int8), arrays[name] * np.nan][int(rng.integers(3))]
        for entry in bundle.FILES:
            config.pop(entry, None)
        try:
            bundle.save(folder / "pca", arrays, config, {"mse": 1.0}, trained)
        except Exception:
            return "refused", "it could not be made"
        if rng.random() < 0.4:  # bytes of the weights, most of them of their head
            weights, sealed = folder / "pca" / "weights.safetensors", folder / "pca" / "config.json"
            weights.write_bytes(mutated(weights.read_bytes(), rng))
            said = json.loads(sealed.read_text())
            said["weights"] = hashlib.sha256(weights.read_bytes()).hexdigest()
            sealed.write_text(json.dumps(said))
        shutil.copytree(self.screen, folder / "a.screen")
        ended = verb(*[["info", "pca"], ["embed", "a.screen", "pca", "--overwrite"]][int(rng.integers(2))])
        return judge(ended)

    def arguments(self, rng: Rng, folder: Path) -> tuple[str, str]:
        """Verbs with options that make no sense."""
        import typer

        from cytovae.cli import console, verbs  # noqa: F401

        shutil.copytree(self.screen, folder / "a.screen")
        os.mkfifo(folder / "pipe")
        (folder / "file").write_text("x")
        group: Any = typer.main.get_command(console.app)
        words: list[str] = []
        while hasattr(group, "commands"):
            names = [n for n in group.commands if n not in ("app", "demo", "fetch", "phantom", "reproduce")]
            words.append(str(rng.choice(names)))
            group = group.commands[words[-1]]
        pool = ["a.screen", "file", "pipe", "nowhere", ".", "..", "/", "-", "--", "pca", "a.screen/cells.parquet"]
        pool += [
            "-1",
            "0",
            "1",
            "3",
            "1e9",
            "nan",
            "inf",
            "99999999999999999999",
            "DNA=a,DNA=b",
            "DNA",
            "x=",
            "cuda:99",
        ]
        pool += [n for n in NASTY if "\0" not in n and len(n) < 5000 and "\ud800" not in n]
        for parameter in group.params:
            if parameter.name == "help" or (not parameter.required and rng.random() < 0.75):
                continue
            kind = getattr(parameter, "bare_type", None)
            value = str(rng.choice(np.array(pool, object)))
            if isinstance(kind, enum.EnumMeta) and rng.random() < 0.6:
                value = str(rng.choice([member.value for member in kind]))
            if parameter.param_type_name == "argument":
                words.append("a.screen" if rng.random() < 0.6 else value)
            elif getattr(parameter, "is_flag", False):
                words.append(parameter.opts[0])
            else:
                words += [parameter.opts[0], value]
        if words[0] == "train":
            words += ["--iterations", "1", "--batch-size", "2"]
        fate, said = judge(verb(*words))
        return fate, f"{' '.join(words)[:300]!r}: {said}"


LINKS = (
    *(
        "screen",
        "model",
        "treatment",
        "target",
        "control",
        "from",
        "steps",
        "mode",
        "spacing",
        "seed",
        "reverse",
        "step",
    ),
    *("level", "map", "cells", "ids", "draw", "plate", "rule", "field", "look", "gamma", "quiz", "deck", "tab", "x"),
)
PAGES = ("explore", "reconstructions", "profiles", "mechanisms", "quiz", "screen")


def _links(self: Material, rng: Rng, folder: Path) -> tuple[str, str]:
    """An address of the app with parameters that make no sense: every page shows itself, or a sentence."""
    import logging

    from ..app.conftest import drive

    logging.disable(logging.CRITICAL)
    os.environ |= {
        "CYTOVAE_SCREENS": str(self.screen),
        "CYTOVAE_MODELS": str(self.bundle.parent),
        "CYTOVAE_QUIZ_DB": f"sqlite:///{folder / 'quiz.sqlite'}",
    }
    page = str(rng.choice(PAGES))
    pool = np.array(
        [*NASTY[:-3], "pca", "a", "taxol@0.5", "DMSO@0", "taxol@1e999", "c1", "mean", "subpopulation:9"], object
    )
    link = {str(key): str(rng.choice(pool)) for key in rng.choice(LINKS, int(rng.integers(1, 6)), replace=False)}
    link = {key: value.encode(errors="replace").decode() for key, value in link.items()}  # as an address can hold it
    test = drive(page, link, timeout=300)
    seen = f"{page} {link!r:.600}"
    if test.exception:
        return "traceback", f"{seen}: {test.exception[0].value}"
    said = [str(error.value) for error in test.error]
    if odd := [text for text in said if "did not foresee" in text]:
        return "traceback", f"{seen}: {odd[0]}"
    return ("refused" if said or test.warning else "accepted"), seen


def _odd_frame(frame: Any, rng: Rng) -> Any:
    """A table of embeddings that is odd in one way."""
    match int(rng.integers(8)):
        case 0:
            return frame.assign(f1=np.nan)
        case 1:
            return frame.assign(f1=np.inf)
        case 2:
            return frame.assign(f1="text")
        case 3:
            return frame.drop(columns="cell_id")
        case 4:
            return frame.iloc[[0, 0, *range(1, len(frame))]]
        case 5:
            return frame.assign(cell_id=[*frame["cell_id"][:-1], str(rng.choice(np.array(NASTY[:30], object)))])
        case 6:
            return frame.iloc[:0]
        case _:
            return frame.rename(columns={"f1": "f0"})


def odd_value(rng: Rng, value: Any) -> Any:
    """Another value for a key of a JSON document."""
    deep: Any = []
    for _ in range(50):
        deep = [deep]
    pool = [
        None,
        True,
        -1,
        0,
        1,
        2**31,
        10**30,
        1e300,
        -0.5,
        "",
        "x",
        "../..",
        [],
        {},
        [None],
        {"a": 1},
        deep,
        "x" * 9999,
    ]
    pool += [str(value), [value], {"value": value}, "\u202e\0"]
    return pool[int(rng.integers(len(pool)))]


def spoil(path: Path, rng: Rng) -> None:
    """A file changed by bytes, or if it is JSON by its meaning, or replaced by something that is no file."""
    content = path.read_bytes()
    if (path.suffix == ".json" or path.name in (".zattrs", ".zarray", ".zgroup")) and rng.random() < 0.7:
        document = inner = json.loads(content)
        while rng.random() < 0.7 and (deeper := [v for v in _values(inner) if isinstance(v, dict | list) and v]):
            inner = deeper[int(rng.integers(len(deeper)))]
        keys = [*inner] if isinstance(inner, dict) else [*range(len(inner))]
        key = keys[int(rng.integers(len(keys)))] if keys else "x"
        match int(rng.integers(8)):
            case 0:
                inner.pop(key) if keys else None
            case 1 if isinstance(inner, dict):
                inner[str(rng.choice(np.array(NASTY[:20], object)))] = 1
            case 2:
                path.write_text("[" * 100_000)
                return
            case 3:
                path.write_text('{"a": ' + "9" * 5000 + "}")
                return
            case 4:
                path.write_text(content.decode().replace(": 1", ": NaN", 1))
                return
            case 5:
                path.write_text(json.dumps(odd_value(rng, 1)))
                return
            case _:
                inner[key] = odd_value(rng, inner[key] if keys else None)
        path.write_text(json.dumps(document))
        return
    path.unlink()
    place(path, mutated(content, rng), rng)


def _values(inner: Any) -> list[Any]:
    return [*inner.values()] if isinstance(inner, dict) else inner


def attacks(folder: Path) -> tuple[list[tuple[Attack, int]], Material]:
    """Every attack on input, with its share of all trials; and what they begin from."""
    material = Material(folder)
    tried = [
        (Attack("crops: TIFF", images(".tif")), 6),
        (Attack("crops: npy", images(".npy")), 5),
        (Attack("crops: PNG", images(".png")), 4),
        (Attack("fields: TIFF", fields), 40),
        (Attack("arrays: npz and npy", arrays), 10),
        (Attack("tables: CSV", tables), 10),
        (Attack("embeddings: parquet, CSV, npz", material.imports), 8),
        (Attack("a screen: JSON and parquet", material.folders), 7),
        (Attack("a bundle: any file", material.bundles), 5),
        (Attack("a bundle: made up", material.crafted), 3),
        (Attack("plates: OME-Zarr", functools.partial(plates, material)), 6),
        (Attack("clusters and shares of work", functools.partial(clusters, material)), 2),
        (Attack("arguments", material.arguments), 5),
        (Attack("links to the app", functools.partial(_links, material), 8 * 2**30), 1),
    ]
    return tried, material
