from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cytovae.errors import BundleError
from cytovae.learn import bundle as bundles
from cytovae.learn import card, networks
from cytovae.learn.sampling import normalise
from cytovae.nets.autoencoders import Networks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nets = Networks(3, similarity=False)
    nets.initialise(torch.Generator().manual_seed(0))
    config = bundles.new_config(
        "tiny", "vae", ("DNA", "Tubulin", "Actin"), 256, 68, recipe={"iterations": 1, "batch_size": 2}
    )
    bundles.save(tmp_path / "tiny", networks.arrays_of(nets), config, {"mse": 0.5})
    return tmp_path / "tiny"


def patches(n: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 4000, (n, 68, 68, 3)).astype(np.uint16)


def test_a_saved_bundle_is_loaded_with_what_it_says(folder: Path) -> None:
    bundle = bundles.load(folder)
    assert (bundle.name, bundle.model, bundle.patch_size_px, bundle.latent_size) == ("tiny", "vae", 68, 256)
    assert bundle.channels == ("DNA", "Tubulin", "Actin")
    assert bundle.metrics == {"mse": 0.5}
    assert bundle.encode(patches()).shape == (5, 256)
    assert bundle.decode(np.zeros((2, 256))).shape == (2, 68, 68, 3)
    assert "0.5" in (folder / "README.md").read_text()


def test_weights_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    found = set()
    for _ in range(8):  # one by one the library writes the two words of its head in either order
        bundles.weights_file(tmp_path / "w", {"b": np.ones((2, 3)), "a": np.zeros(2)}, {"format": "x", "config": "y"})
        found.add((tmp_path / "w").read_bytes())
    assert len(found) == 1
    (tmp_path / "other").touch()
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "other").stat().st_mode  # others may read it as any file


def test_raw_and_normalised_patches_have_the_same_embedding(folder: Path) -> None:
    bundle = bundles.load(folder)
    np.testing.assert_allclose(bundle.encode(normalise(patches())), bundle.encode(patches()), rtol=1e-5, atol=1e-6)


def test_embeddings_do_not_depend_on_the_company(folder: Path) -> None:
    bundle = bundles.load(folder)
    many = patches(2 * bundles.BLOCK + 3)
    z = bundle.encode(many)
    np.testing.assert_allclose(bundle.encode(many[-2:]), z[-2:], rtol=1e-4, atol=1e-5)
    assert bundle.encode(many[:0]).shape == (0, 256)


def test_blank_patches_have_a_finite_embedding(folder: Path) -> None:
    assert np.isfinite(bundles.load(folder).encode(np.zeros((1, 68, 68, 3), np.uint16))).all()


def test_threads_share_a_bundle(folder: Path) -> None:
    bundle = bundles.load(folder)
    images = [patches(3) // (k + 1) for k in range(6)]
    alone = [bundle.decode(bundle.encode(x)) for x in images]
    together: list[np.ndarray] = [np.empty(0)] * 6

    def work(k: int) -> None:
        together[k] = bundle.decode(bundle.encode(images[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_changed_weights_are_refused(folder: Path) -> None:
    weights = folder / bundles.WEIGHTS
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(BundleError, match="is not the file its bundle was made with"):
        bundles.load(folder)


@pytest.mark.parametrize("name", [bundles.METRICS, bundles.CARD])
def test_changed_measures_and_cards_are_refused_and_new_ones_taken(folder: Path, name: str) -> None:
    before = (folder / name).read_text()
    (folder / name).write_text(before.replace("0.5", "0.1"))
    with pytest.raises(BundleError, match=f"{name} is not the file its bundle was made with"):
        bundles.load(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"has no {name}"):
        bundles.load(folder)
    bundles.update_metrics(folder, {"mse": 0.25})
    assert bundles.load(folder).metrics == {"mse": 0.25}


def test_a_bundle_that_keeps_the_digest_of_its_weights_alone_is_still_read(folder: Path) -> None:
    config = json.loads((folder / bundles.CONFIG).read_text())
    alone = {key: value for key, value in config.items() if key not in ("metrics", "card")}
    (folder / bundles.CONFIG).write_text(json.dumps(alone))
    with pytest.raises(BundleError, match=r"lacks the digest of metrics\.json"):
        bundles.load(folder)  # this version's bundles have it
    arrays = load_file(folder / bundles.WEIGHTS)
    bundles.save(folder, arrays, {k: v for k, v in alone.items() if k != "weights"} | {"cytovae": "0.2.0"}, {})
    config = json.loads((folder / bundles.CONFIG).read_text())
    old = {key: value for key, value in config.items() if key not in ("metrics", "card")}
    (folder / bundles.CONFIG).write_text(json.dumps(old))
    (folder / bundles.METRICS).write_text("{}")
    assert bundles.load(folder).metrics == {}
    assert bundles.trained_patches(folder) is None


def test_the_card_begins_with_yaml_that_hubs_read(folder: Path) -> None:
    yaml = pytest.importorskip("yaml")
    config = {**json.loads((folder / bundles.CONFIG).read_text()), "name": 'a "b": c'}
    data = {"screen": "S: 1", "licence": "CC BY-NC-SA 3.0"}
    text = card.write({**config, "data": data}, {"mse": 0.000012, "split": "test", "n_cells": 4}, "A VAE", "Short.")
    _, front, body = text.split("---\n", 2)
    read = yaml.safe_load(front)
    assert read["license"] == "cc-by-nc-sa-3.0"
    assert read["library_name"] == "cytovae"
    assert {"microscopy", "vae"} <= set(read["tags"])
    assert read["datasets"] == ["S: 1"]
    assert read["metrics"] == ["mse"]
    index = read["model-index"][0]
    assert index["name"] == 'a "b": c'
    assert index["results"][0]["metrics"] == [{"type": "mse", "value": 0.000012}]
    assert body.lstrip().startswith("# a")
    assert yaml.safe_load((folder / bundles.CARD).read_text().split("---\n")[1])["license"] == "unknown"


def test_a_changed_configuration_is_refused(folder: Path) -> None:
    config = json.loads((folder / bundles.CONFIG).read_text())
    config["channels"] = ["Actin", "Tubulin", "DNA"]
    (folder / bundles.CONFIG).write_text(json.dumps(config))
    with pytest.raises(BundleError, match="was changed after its weights were written"):
        bundles.load(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    config = {k: v for k, v in json.loads((folder / bundles.CONFIG).read_text()).items() if k != "weights"}
    bundles.save(folder, {"mean": np.zeros(3, np.float32)}, config, {})
    with pytest.raises(BundleError, match="do not fit its networks"):
        bundles.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"format": "keras"}', "is of format 'keras'; this cytovae reads 'cytovae-bundle-1'"),
        ('{"format": "cytovae-bundle-1"}', "lacks channels, latent_size, model, name, patch_size_px, weights"),
    ],
)
def test_a_foreign_configuration_is_refused_with_its_reason(folder: Path, text: str, message: str) -> None:
    (folder / bundles.CONFIG).write_text(text)
    with pytest.raises(BundleError, match=re.escape(message)):
        bundles.load(folder)


def test_a_pickle_in_the_place_of_the_weights_is_never_loaded(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / bundles.WEIGHTS)
    with pytest.raises(BundleError, match="is not the file its bundle was made with"):
        bundles.load(folder)


def test_patches_and_embeddings_that_do_not_fit_are_refused(folder: Path) -> None:
    bundle = bundles.load(folder)
    with pytest.raises(BundleError, match=re.escape("patches of shape (n, 68, 68, 3), not (1, 64, 64, 3)")):
        bundle.encode(np.zeros((1, 64, 64, 3), np.uint16))
    with pytest.raises(BundleError, match=re.escape("embeddings of shape (n, 256), not (1, 255)")):
        bundle.decode(np.zeros((1, 255)))


def test_bundles_are_found_by_name_and_by_path(folder: Path) -> None:
    assert bundles.find(folder.parent) == ["tiny"]
    assert bundles.locate("tiny", folder.parent) == folder
    assert bundles.locate(folder) == folder
    with pytest.raises(BundleError, match="no model bundle 'tinny'; did you mean 'tiny'"):
        bundles.locate("tinny", folder.parent)


def test_an_unfinished_training_says_so(tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_text("")
    with pytest.raises(BundleError, match="its training has not ended, go on with --resume"):
        bundles.load(tmp_path)


def test_describing_and_finding_do_not_import_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cytovae.learn import bundle; "
        f"bundle.describe(Path({str(folder)!r})); bundle.find(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_moved_folder_takes_its_new_name(folder: Path) -> None:
    folder.rename(folder.parent / "other")
    assert bundles.load(folder.parent / "other").name == "other"
