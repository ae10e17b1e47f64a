"""The short form of the torture: few trials of each attack, by fixed seeds; ``make torture`` is the long one."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytovae.config import ScreenRecord, from_dict, to_dict
from cytovae.errors import ConfigError, ScreenError
from cytovae.screen import csv_text, parse_csv, plain, read_json

from . import inputs, kills, trial

ROOT = Path(__file__).resolve().parents[2]
SEED = 20_000
few = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("torture")
    attacks, made = inputs.attacks(folder / "material")
    return folder, {attack.name: attack for attack, _ in attacks}, made


NAMES = (
    *("crops: TIFF", "crops: npy", "crops: PNG", "fields: TIFF", "arrays: npz and npy", "tables: CSV"),
    *(
        "embeddings: parquet, CSV, npz",
        "a screen: JSON and parquet",
        "a bundle: any file",
        "a bundle: made up",
        "plates: OME-Zarr",
        "clusters and shares of work",
        "arguments",
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_ends_in_one_sentence_or_is_read_as_it_is(material: Any, name: str) -> None:
    folder, attacks, _ = material
    number = {"fields: TIFF": 40, "links to the app": 3}.get(name, 6)
    row = trial.run(attacks[name], range(SEED, SEED + number), folder)
    assert row.tried == number
    assert row.bad == [], f"seeds {SEED} to {SEED + number - 1}"


@pytest.fixture(scope="module")
def stopped(material: Any) -> kills.Steps:
    folder, _, made = material
    return kills.Steps(folder, made, only=("ingest fields", "ingest crops", "embed again", "profile", "import"))


@pytest.mark.parametrize("how", ["killed", "full", "closed", "together"])
@pytest.mark.parametrize("name", ["ingest fields", "ingest crops", "embed again", "profile", "import"])
def test_a_step_that_was_disturbed_is_repeated_and_leaves_what_it_should(
    material: Any, stopped: kills.Steps, name: str, how: str
) -> None:
    folder, _, _ = material
    step = next(step for step in stopped.all if step.name == name)
    number = 3 if how == "killed" else 1
    row = trial.run(getattr(stopped, how)(step), range(SEED, SEED + number), folder, 300)
    assert row.tried == number
    assert row.bad == [], f"seeds {SEED} to {SEED + number - 1}"


def test_the_real_command_refuses_a_pipe_and_an_unpicklable_array(tmp_path: Path) -> None:
    """As a process of its own: what the other trials do in this one."""
    os.mkfifo(tmp_path / "pipe.csv")
    np.save(tmp_path / "cells.npy", np.array([inputs.Canary()] * 3, object), allow_pickle=True)
    inputs.crop_table(tmp_path / "table.csv")
    words = ["ingest", "crops", "out.screen", "--channels", "DNA", "--images", "cells.npy", "--table"]
    for table in ("pipe.csv", "table.csv"):
        done = subprocess.run(
            [sys.executable, "-m", "cytovae", *words, table],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("cytovae: ") and done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.npy", "pipe.csv", "table.csv"]


@few
@given(anything)
def test_any_json_is_a_record_or_refused(document: Any) -> None:
    values = {"name": "x", "channels": ["DNA"]}
    for key in to_dict(ScreenRecord("x", ("DNA",))):
        try:
            record = from_dict(ScreenRecord, {**values, key: document})
        except ConfigError as refused:
            assert "\n" not in str(refused)
        else:
            assert to_dict(record)[key] == document


@pytest.mark.parametrize("text", ["[" * 10**5, "9" * 5000, '{"a": NaN}', '{"a": 1, "a": 2}', "", "\0", "{"])
def test_json_that_is_none_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ScreenError, match=r"a\.json cannot be understood: [^\n]+$"):
        read_json(tmp_path / "a.json")


cell = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)


@few
@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=5))
def test_written_csv_holds_no_formula_and_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    table = pd.DataFrame(rows, columns=["compound", "well"])
    text = csv_text(table)
    written = list(csv.reader(io.StringIO(text, newline="")))[1:]
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for row in written for value in row)
    if any(value.startswith("'") for row in rows for value in row):
        return  # an apostrophe of one's own before a sign is taken for ours
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text(text, newline="")
    lost = {"\r"} & set("".join("".join(row) for row in rows))  # pandas ends a line there
    if not lost:
        back = parse_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False).map(plain)
        assert back.to_numpy().tolist() == table.to_numpy().tolist()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b\n1,2,3\n", "more cells than"),
        (b"a,b,a\n1,2,3\n", "'a' stands there 2 times"),
        (b"a,b\n1,ta\0xol\n", "NUL"),
        ("a,b\n1,2\n".encode("utf-16"), "NUL"),
        ("a,b\n1,\xb5\n".encode("latin-1"), "not in UTF-8: byte 0xb5"),
        (b"a;b\n1;2,5\n", "parted by semicolons; save it as comma-separated"),
        (b"a\tb\n1\t2\n", "parted by tabs"),
        (b'a,b\n1,"2\n', "EOF inside string"),
    ],
)
def test_what_pandas_would_guess_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(ValueError, match=said):
        parse_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)


def test_a_bundle_is_sealed_anew_only_around_its_own_weights(material: Any, tmp_path: Path) -> None:
    import shutil

    from cytovae.errors import BundleError
    from cytovae.learn import bundle

    _, _, made = material
    path = tmp_path / "pca"
    shutil.copytree(made.bundle, path)
    (path / "README.md").write_text("changed")
    with pytest.raises(BundleError, match=r"README\.md is not the file"):
        bundle.verify(path)
    bundle.seal(path)
    assert bundle.verify(path)["name"] == "pca"
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "metrics"}))
    with pytest.raises(BundleError, match=r"lacks the digest of metrics\.json"):
        bundle.verify(path)
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="is not the file"):
        bundle.seal(path)
