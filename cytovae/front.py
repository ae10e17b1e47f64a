"""The front door for Python: a screen and a model in a notebook, each step of the product one call.

Every function here makes one request of the room that does the work, as the command line and the app do, so the three
give the same numbers. What comes back displays itself in a notebook.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cytovae import schema
from cytovae.config import choice
from cytovae.errors import DependencyError, ScreenError, SelectionError
from cytovae.patches import PatchStore
from cytovae.screen import Screen

if TYPE_CHECKING:
    from anndata import AnnData

    from cytovae.explore.study import Drawn
    from cytovae.learn.bundle import Bundle
    from cytovae.profiling.whiten import Options


class CellTable(pd.DataFrame):
    """Cells, wells or treatments as a table: ``Metadata_*`` columns, every other column a feature."""

    @property
    def _constructor(self) -> type[CellTable]:
        return CellTable

    def to_anndata(self) -> AnnData:
        """The same as AnnData: X the features, obs the metadata.

        Raises
        ------
        DependencyError
            anndata is not installed.
        """
        try:
            import anndata
        except ImportError:
            raise DependencyError("AnnData needs the package anndata: pip install 'cytovae[anndata]'") from None
        features = schema.feature_columns(self)
        about = pd.DataFrame(self.drop(columns=features))
        about.index = about.index.astype(str)
        return anndata.AnnData(
            X=self[features].to_numpy(np.float32), obs=about, var=pd.DataFrame(index=pd.Index(features, name="feature"))
        )


@dataclass(frozen=True)
class Drawing:
    """A path between two cells; in a notebook it shows itself as the strip of pictures.

    Parameters
    ----------
    drawn : cytovae.explore.study.Drawn
        The path with all that stands beside it.
    """

    drawn: Drawn

    @property
    def frames(self) -> npt.NDArray[np.float32]:
        """The decoded steps, ``(k, H, W, C)`` float32, as the model gives them (about 0 to 1, not clipped)."""
        return self.drawn.path.frames

    @property
    def steps(self) -> pd.DataFrame:
        """One row per step: features moved, cosine similarities, nearest real cell, support."""
        from cytovae.explore import render

        return render.table(self.drawn.path, self.drawn.evidence, None)

    @property
    def verdict(self) -> str:
        """Whether the path shows more than two control cells would, in a sentence."""
        return self.drawn.verdict.sentence

    def save(self, path: str | Path) -> None:
        """Write it to a file; the ending says what: png, svg, gif, csv, json ...

        Raises
        ------
        ConfigError
            The ending is none of these.
        """
        from cytovae.explore import study

        study.write(self.drawn, Path(path))

    def _repr_png_(self) -> bytes:
        from cytovae.explore import study

        return study.content(self.drawn, study.Form.PNG)

    def __repr__(self) -> str:
        return f"<{self.drawn.title}: {self.drawn.path.steps} steps. {self.verdict}>"


@dataclass(frozen=True)
class Reconstructions:
    """Cells and what a model makes of them; in a notebook they show themselves, originals above.

    Parameters
    ----------
    cell_ids : tuple of str
    original, reconstruction : (n, H, W, C) float32
        Normalised patches, in [0, 1], and the model's, not clipped.
    measures : dict
        Closeness, sharpness and the rest, see `cytovae.learn.measures.measure`, on all cells of the split.
    """

    cell_ids: tuple[str, ...]
    original: npt.NDArray[np.float32]
    reconstruction: npt.NDArray[np.float32]
    measures: dict[str, Any]

    def _repr_png_(self) -> bytes:
        from cytovae.learn import reconstruct as reconstructions

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sheet.png"
            strips = [("original", self.original), ("reconstruction", self.reconstruction)]
            reconstructions.write_sheet(path, strips)
            return path.read_bytes()

    def __repr__(self) -> str:
        of, mse = self.measures["n_cells"], self.measures["mse"]
        return f"<{len(self.cell_ids)} cells and their reconstructions; mean squared error {mse:.4f} on {of:,} cells>"


@dataclass(frozen=True)
class OpenScreen:
    """A screen on disk, with the steps of the product as methods.

    Parameters
    ----------
    screen : cytovae.screen.Screen
        The folder and its record.
    """

    screen: Screen

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.screen.path

    @property
    def name(self) -> str:
        """What it is called."""
        return self.screen.name

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the patch channels, in stored order."""
        return self.screen.record.channels

    @property
    def models(self) -> list[str]:
        """Names of the models it is embedded with."""
        return self.screen.models()

    def cells(self) -> CellTable:
        """One row per cell."""
        return CellTable(self.screen.cells())

    def patches(self, cell_ids: Sequence[str]) -> npt.NDArray[np.uint16]:
        """The images of cells as acquired, ``(n, H, W, C)`` uint16, in the order asked for.

        Raises
        ------
        SelectionError
            The screen has no such cell.
        """
        rows = pd.Index(self.screen.cells()[schema.CELL_ID]).get_indexer(list(cell_ids))
        if (rows < 0).any():
            missing = str(np.asarray(cell_ids)[rows < 0][0])
            raise SelectionError(f"{self.path} has no cell {missing!r}")
        return PatchStore(self.screen.patches_path).read(rows)

    def embeddings(self, model: Bundle | str) -> CellTable:
        """See `embed`."""
        return embed(self, model)

    def profiles(self, model: Bundle | str, **options: Any) -> CellTable:
        """See `profile`."""
        return profile(self, model, **options)

    def benchmark(self, *models: Bundle | str, **options: Any) -> pd.DataFrame:
        """See `benchmark`."""
        return benchmark(self, *models, **options)

    def interpolate(self, model: Bundle | str, treatment: str | None = None, **options: Any) -> Drawing:
        """See `interpolate`."""
        return interpolate(self, model, treatment, **options)

    def reconstruct(self, model: Bundle | str, **options: Any) -> Reconstructions:
        """See `reconstruct`."""
        return reconstruct(self, model, **options)

    def __repr__(self) -> str:
        cells = self.screen.cells()
        return (
            f"<screen {self.name!r}: {len(cells):,} cells, {cells[schema.TREATMENT].nunique()} treatments with the "
            f"controls, channels {', '.join(self.channels)}; embedded with {', '.join(self.models) or 'no model yet'}>"
        )


AnyScreen = OpenScreen | Screen | str | Path


def _screen(given: AnyScreen) -> Screen:
    if isinstance(given, OpenScreen):
        return given.screen
    return given if isinstance(given, Screen) else Screen.open(given)


def _model(given: Bundle | str | Path) -> Bundle:
    return load_model(given) if isinstance(given, str | Path) else given


def _whitening(whiten: str, few_controls: str) -> Options:
    from cytovae.profiling.whiten import FewControls, Options, Whitening

    few = choice(FewControls, few_controls, "few_controls")
    return Options(choice(Whitening, whiten, "whitening"), few=few)


def open_screen(path: str | Path) -> OpenScreen:
    """A screen that was made by `ingest_crops`, `ingest_fields` or ``cytovae ingest``.

    Parameters
    ----------
    path : str or Path
        Its folder.

    Raises
    ------
    ScreenError
        There is no screen, or it cannot be read.

    Examples
    --------
    >>> import cytovae
    >>> screen = cytovae.open_screen(demo.path)
    >>> screen.channels, len(screen.cells())
    (('DNA', 'Tubulin', 'Actin'), 4)
    """
    return OpenScreen(Screen.open(path))


def load_model(named: str | Path, device: str = "cpu") -> Bundle:
    """A trained model, verified: one that ships with cytovae by its name, or any bundle by its folder.

    Parameters
    ----------
    named : str or Path
    device : str
        Of torch; ``auto`` takes a GPU where there is one.

    Raises
    ------
    BundleError
        There is none, or it is damaged.

    Examples
    --------
    >>> import cytovae
    >>> model = cytovae.load_model("bbbc021-vaeplus")
    >>> model.channels, model.latent_size
    (('DNA', 'Tubulin', 'Actin'), 256)
    """
    from cytovae.learn import bundle

    return bundle.load(bundle.locate(named, bundle.models_dir()), device=bundle.choose_device(device))


def ingest_crops(
    images: npt.NDArray | str | Path,
    table: pd.DataFrame | str | Path,
    channels: Sequence[str],
    path: str | Path,
    *,
    overwrite: bool = False,
    **options: Any,
) -> OpenScreen:
    """A screen from cells that are cut already, in memory or in files.

    Parameters
    ----------
    images : (n, H, W, C) array, or str or Path
        Whole numbers from 0 to what `bit_depth` allows; or an npz or npy file, or a folder of one file per cell.
    table : DataFrame, str or Path
        One row per cell, in the order of the images: cell_id, plate, well, compound, concentration_uM, and optionally
        site, replicate, batch, moa; or a CSV file of these.
    channels : sequence of str
        In the order in which the images hold them.
    path : str or Path
        The screen's folder, to be made.
    overwrite : bool
        Make it again where it is there.
    **options
        ``name``, ``control``, ``pixel_size_um``, ``column``, ``plate_map`` ... of `cytovae.ingest.request.Crops`; the
        patch size of an array in memory is its own where none is given.

    Raises
    ------
    IngestError, TableError, ConfigError
        Nothing is usable, table and images do not belong together, or there is no such option.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd, cytovae
    >>> images = np.random.default_rng(0).integers(0, 9999, (4, 68, 68, 3)).astype(np.uint16)
    >>> table = pd.DataFrame({"cell_id": list("abcd"), "plate": "Week1_1", "well": ["A01", "A01", "A02", "A02"],
    ...                       "compound": ["DMSO", "DMSO", "taxol", "taxol"], "concentration_uM": [0, 0, 0.3, 0.3]})
    >>> cytovae.ingest_crops(images, table, ["DNA", "Tubulin", "Actin"], tempfile.mkdtemp() + "/my.screen")
    <screen 'my': 4 cells, 2 treatments with the controls, channels DNA, Tubulin, Actin; embedded with no model yet>
    """
    from cytovae.config import from_dict
    from cytovae.ingest import assembly, layouts, request

    with tempfile.TemporaryDirectory() as folder:
        if isinstance(images, np.ndarray):
            if images.ndim == 4:
                options = {"patch_size_px": images.shape[1], **options}
            np.save(Path(folder) / "images.npy", images, allow_pickle=False)
            images = Path(folder) / "images.npy"
        if isinstance(table, pd.DataFrame):
            table.to_csv(Path(folder) / "table.csv", index=False)
            table = Path(folder) / "table.csv"
        asked = from_dict(request.Crops, options)
        layout = layouts.crops.read(Path(images), Path(table), channels, design=asked.design)
        record = asked.record(Path(path), layout)
        if overwrite or not Path(path).exists():
            asked.check_scale(layout, record)
        return OpenScreen(assembly.ingest_crops(layout, Path(path), record, asked.options, overwrite=overwrite).screen)


def ingest_fields(
    table: str | Path,
    channels: Mapping[str, str],
    path: str | Path,
    *,
    images: str | Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    **options: Any,
) -> OpenScreen:
    """A screen from fields of view that a CellProfiler LoadData table lists: nuclei are found and cells cut out.

    Parameters
    ----------
    table : str or Path
        The CSV.
    channels : mapping of str to str
        Channel -> the X of its columns ``FileName_X`` and ``PathName_X``, such as ``{"DNA": "OrigDNA"}``.
    path : str or Path
        The screen's folder, to be made.
    images : str or Path, optional
        Folder to which relative paths belong; the table's own where None.
    workers : int
        Processes that read fields.
    overwrite : bool
        Make it again where it is there.
    **options
        ``name``, ``control``, ``pixel_size_um``, ``column``, ``z`` ... of `cytovae.ingest.request.Fields`.

    Raises
    ------
    IngestError, TableError, ConfigError
        No field is usable, the table lacks columns, or there is no such option.

    Examples
    --------
    >>> import cytovae
    >>> cytovae.ingest_fields("no/such.csv", {"DNA": "OrigDNA"}, "my.screen")
    Traceback (most recent call last):
        ...
    cytovae.errors.TableError: no/such.csv does not exist
    """
    from cytovae.config import from_dict
    from cytovae.ingest import assembly, illumination, layouts, request

    asked = from_dict(request.Fields, options)
    folder = None if images is None else Path(images)
    by_files = asked.illumination == illumination.Correction.FILES
    layout = layouts.loaddata.read(Path(table), channels, images=folder, design=asked.design, illumination=by_files)
    record, raw = asked.record(Path(path), layout), folder or Path(table).parent
    if overwrite or not Path(path).exists():
        asked.check_scale(layout, raw, record)
    made = assembly.ingest_fields(layout, raw, Path(path), record, asked.options, workers=workers, overwrite=overwrite)
    return OpenScreen(made.screen)


def train(
    screen: AnyScreen,
    path: str | Path,
    model: str = "vae+",
    *,
    also: Sequence[AnyScreen] = (),
    recipe: str = "paper",
    resume: bool = True,
    **options: Any,
) -> Bundle:
    """Train a model on a screen; its bundle is left at `path`.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    path : str or Path
        The bundle's folder. A training that was interrupted goes on from its last checkpoint.
    model : str
        Its kind: ``ae``, ``vae``, ``vae+``, ``pca``, or one that another package brings (`cytovae.learn.kinds`).
    also : sequence of OpenScreen, Screen, str or Path
        Further screens to train on, of the same channels, patch size, pixel size and control.
    recipe : str
        ``paper``, or ``best``, for kinds that are trained by either.
    resume : bool
        Whether to go on with a training that was interrupted.
    **options
        Of the kind: for the networks ``iterations``, ``batch_size``, ``seed`` ... of `cytovae.learn.train.Recipe`.

    Raises
    ------
    ConfigError, TrainingError
        An unknown kind or option; training diverged, or a finished model that was made otherwise is there.

    Examples
    --------
    >>> import tempfile, cytovae
    >>> model = cytovae.train(demo, tempfile.mkdtemp() + "/mine", "ae", recipe="best", iterations=2, batch_size=2)
    >>> model.name, model.config["recipe"]["iterations"]
    ('mine', 2)
    """
    from cytovae.learn import kinds, models
    from cytovae.learn.pool import Pool

    if recipe != "paper":
        options = {"recipe": recipe, **options}
    screens = [_screen(one) for one in (screen, *also)]
    models.train(Pool(screens) if also else screens[0], Path(path), model, options, kinds.Run(resume=resume))
    return load_model(Path(path))


def embed(screen: AnyScreen, model: Bundle | str | Path) -> CellTable:
    """The embeddings of a screen's cells, made and stored in it where they are not there yet.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    model : Bundle, str or Path
        A model, or its name or folder.

    Returns
    -------
    CellTable
        One row per cell: metadata, then one column per feature.

    Raises
    ------
    ScreenError
        Screen and model have other channels or patches.

    Examples
    --------
    >>> import cytovae
    >>> table = cytovae.embed(demo, "bbbc021-vaeplus")
    >>> len(table), table.filter(regex="^z").shape[1]
    (4, 256)
    """
    from cytovae.learn import embed as embeddings

    opened, loaded = _screen(screen), _model(model)
    embeddings.embed(opened, loaded)
    cells, values = opened.embeddings(loaded.name)
    features = pd.DataFrame(np.asarray(values), columns=opened.feature_names(loaded.name), index=cells.index)
    return CellTable(pd.concat([cells, features], axis=1))


def profile(
    screen: AnyScreen,
    model: Bundle | str | Path,
    *,
    level: str = "treatments",
    summary: str = "mean",
    whiten: str = "none",
    few_controls: str = "error",
) -> CellTable:
    """Profiles of a screen's treatments or wells, made and stored in it where they are not there yet.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    model : Bundle, str or Path
    level : str
        ``treatments`` or ``wells``.
    summary : str
        ``mean``, or ``mean+sd``.
    whiten : str
        ``none``, or whose controls whiten: ``plate``, ``batch`` ...
    few_controls : str
        Where there are no more controls than dimensions: ``error``, ``pool`` or ``shrink``.

    Raises
    ------
    ProfileError
        There are too few controls to whiten by.

    Examples
    --------
    >>> import cytovae
    >>> cytovae.profile(demo, "bbbc021-vaeplus")["Metadata_Treatment"].to_list()
    ['DMSO@0', 'taxol@0.3']
    """
    from cytovae.profiling import study

    if level not in ("treatments", "wells"):
        raise SelectionError(f"profiles are of treatments or wells, not {level!r}")
    opened, loaded = _screen(screen), _model(model)
    embed(opened, loaded)
    options = _whitening(whiten, few_controls)
    made = study.profile(opened, loaded.name, summary, options)
    return CellTable(made.treatments if level == "treatments" else made.wells)


def benchmark(
    screen: AnyScreen,
    *models: Bundle | str | Path,
    summary: str = "mean",
    whiten: str = "none",
    few_controls: str = "error",
    baselines: bool = True,
) -> pd.DataFrame:
    """Mechanism-of-action accuracy of models on a screen, beside baselines made of the same cells.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    *models : Bundle, str or Path
        All that the screen is embedded with where none is given.
    summary, whiten, few_controls
        As for `profile`.
    baselines : bool
        Whether pixel PCA, simple measurements and cell counts are scored too.

    Returns
    -------
    DataFrame
        A row per model (or baseline) and rule (NSC, NSCB): accuracy, its 95 % interval, how many treatments were
        scored of how many.

    Raises
    ------
    ProfileError, ScreenError
        Nothing can be scored, or the screen is not embedded with any model.

    Examples
    --------
    >>> import cytovae
    >>> cytovae.benchmark("no/such.screen")
    Traceback (most recent call last):
        ...
    cytovae.errors.ScreenError: there is no screen at no/such.screen: make one with 'cytovae ingest' or 'cytovae demo'
    """
    from cytovae.profiling import study

    opened = _screen(screen)
    loaded = [_model(model) for model in models]
    for one in loaded:
        embed(opened, one)
    names = [one.name for one in loaded] or opened.models()
    if not names:
        raise ScreenError(f"{opened.path} has no embeddings; name a model to embed it with")
    asked = study.Benchmark([(summary, _whitening(whiten, few_controls))])
    document, _ = asked.of_screen(opened, names, PatchStore if baselines else None)
    rows = [
        {"model": line.get("bundle") or line.get("baseline"), **{k: line[k] for k in line if k in _SCORE_COLUMNS}}
        for line in [*document["scores"], *document.get("baselines", [])]
    ]
    return pd.DataFrame(rows).dropna(axis=1, how="all")


_SCORE_COLUMNS = ("summary", "whiten", "rule", "accuracy", "ci95", "n_scored", "n_treatments")


def interpolate(screen: AnyScreen, model: Bundle | str | Path, treatment: str | None = None, **options: Any) -> Drawing:
    """The path from a control cell to a treated one, decoded step by step.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    model : Bundle, str or Path
    treatment : str, optional
        Such as ``"cytochalasin D@0.3"``; None with ``dose_series``.
    **options
        See `cytovae.explore.study.Request`: ``target``, ``control``, ``steps``, ``mode``, ``spacing``, ``seed`` ...

    Raises
    ------
    SelectionError, ConfigError
        There is no such treatment or cell, or options exclude each other.

    Examples
    --------
    >>> import cytovae
    >>> path = cytovae.interpolate(demo, "bbbc021-vaeplus", "taxol@0.3", steps=5)
    >>> path.frames.shape
    (5, 68, 68, 3)
    """
    from cytovae.config import from_dict
    from cytovae.explore import study
    from cytovae.profiling.study import inactive

    opened, loaded = _screen(screen), _model(model)
    embed(opened, loaded)
    material = study.Material.of(opened, loaded, PatchStore(opened.patches_path).read)
    drawn = study.draw(material, from_dict(study.Request, {"treatment": treatment, **options}))
    if said := inactive(opened, material.generator.name, treatment or ""):
        drawn = replace(drawn, notes=(said, *drawn.notes))
    return Drawing(drawn)


def reconstruct(
    screen: AnyScreen, model: Bundle | str | Path, *, n_cells: int = 10, split: str = "test"
) -> Reconstructions:
    """Cells of a screen beside what a model makes of them, with measures.

    Parameters
    ----------
    screen : OpenScreen, Screen, str or Path
    model : Bundle, str or Path
    n_cells : int
        How many to show; the treatments take turns.
    split : str
        ``test``: cells the model was not trained on; ``train``: the others; ``all``.

    Raises
    ------
    SelectionError
        The split is empty on this screen.

    Examples
    --------
    >>> import cytovae
    >>> shown = cytovae.reconstruct(demo, "bbbc021-vaeplus", n_cells=2)
    >>> shown.reconstruction.shape, shown.measures["n_cells"]
    ((2, 68, 68, 3), 4)
    """
    from cytovae.learn import reconstruct as reconstructions

    opened, loaded = _screen(screen), _model(model)
    cells = opened.cells()
    rows = reconstructions.split_rows(opened, cells, loaded, split)
    shown = reconstructions.some_of_each(cells, rows, n_cells)
    original, made = reconstructions.reconstruct(opened, shown, loaded)
    ids = tuple(str(x) for x in cells[schema.CELL_ID].iloc[shown])
    return Reconstructions(ids, original, made, reconstructions.measure(opened, loaded, split))
