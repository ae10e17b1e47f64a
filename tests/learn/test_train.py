from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cytovae import config as configs
from cytovae import schema
from cytovae.errors import ConfigError, TrainingError
from cytovae.learn import bundle as bundles
from cytovae.learn import networks, reconstruct, sampling
from cytovae.learn import train as trainings
from cytovae.nets import blocks
from cytovae.patches import PatchStore
from cytovae.screen import Screen

CPU = trainings.Machine(device="cpu", threads=1)
RECIPE = trainings.Recipe("vae+", iterations=8, batch_size=4, period=1, seed=3)
PAPER_HAS_NOT = (
    "decoder_margin_px",
    "discriminator_margin_px",
    "beta",
    "average_cells",
    "moments_batches",
    "validation",
    "anneal",
    "half_size",
)
BEST = dataclasses.replace(
    RECIPE, **{**trainings.RECIPES["best"], "average_cells": 10, "moments_batches": 2, "anneal": 0.0}
)
ROOT = Path(__file__).resolve().parents[2]


def run(screen: Screen, path: Path, recipe: trainings.Recipe = RECIPE, **options: object) -> dict[str, np.ndarray]:
    trainings.train(screen, path, recipe, machine=CPU, pictures_every=0, **options)  # type: ignore[arg-type]
    return weights_of(path)


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """Of encoder and decoder: what the bundle holds beside the digests of the patches trained on."""
    return {name: array for name, array in load_file(path / bundles.WEIGHTS).items() if name != bundles.TRAINED_ON}


def batches_of(screen: Screen, recipe: trainings.Recipe) -> trainings.Batches:
    cells = screen.cells()
    rows = sampling.split(cells, 0.0).training_rows(cells)
    treatments = cells[schema.TREATMENT].iloc[rows].to_list()
    return trainings.Batches(sampling.TreatmentSampler(PatchStore(screen.patches_path), rows, treatments), recipe)


@pytest.fixture(scope="module")
def undisturbed(blobs: Screen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "whole"
    run(blobs, path, checkpoint_every=3)
    return path


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def batch(n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.rand(n, 3, 68, 68, generator=g),
        torch.rand(n, 3, 68, 68, generator=g),
        torch.randn(n, 256, generator=g),
    )


def test_the_log_names_every_term(undisturbed: Path) -> None:
    lines = [json.loads(line) for line in (undisturbed / trainings.LOG).read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [8]
    names = {"pixel", "kl", "similarity1", "similarity2", "similarity3", "similarity4", "discriminator"}
    assert lines[0].keys() == {"iteration", "it_per_s", "eta_s", *names}
    assert not (undisturbed / trainings.CHECKPOINT).exists()


def test_the_bundle_says_how_it_was_trained(undisturbed: Path) -> None:
    bundle = bundles.load(undisturbed)
    assert bundle.config["recipe"] == configs.to_dict(RECIPE)
    assert {k: v for k, v in bundle.config["recipe"].items() if k not in PAPER_HAS_NOT} == {
        "recipe": "paper",
        "model": "vae+",
        "iterations": 8,
        "batch_size": 4,
        "period": 1,
        "seed": 3,
        "rates": "paper",
        "decay": 1e-4,
        "augment": True,
        "held_out": 0.15,
        "precision": "32-true",
        "anneal_pixels": 1.0,
        "anneal_frame": 1.0,
    }
    assert not any(bundle.config["recipe"][name] for name in PAPER_HAS_NOT)
    assert bundle.metrics["n_cells"] == bundle.config["split"]["n_held_out_cells"] > 0


def test_a_bundle_of_half_the_size_keeps_kernels_to_11_bits_and_is_measured_as_it_is_kept(
    blobs: Screen, undisturbed: Path, tmp_path: Path
) -> None:
    half, whole = run(blobs, tmp_path / "half", dataclasses.replace(RECIPE, half_size=True)), weights_of(undisturbed)
    assert {name for name, array in half.items() if array.dtype == np.float16} == {
        name for name, array in whole.items() if array.ndim > 1
    }
    for name, array in whole.items():
        np.testing.assert_allclose(half[name], array, rtol=2**-11, atol=2**-25)
    sizes = [(path / bundles.WEIGHTS).stat().st_size for path in (tmp_path / "half", undisturbed)]
    assert sizes[0] < 0.55 * sizes[1]
    made, exact = bundles.load(tmp_path / "half"), bundles.load(undisturbed)
    assert made.metrics["mse"] == pytest.approx(reconstruct.measure(blobs, made)["mse"], rel=1e-6)
    patches = PatchStore(blobs.patches_path).read(np.arange(20))
    z = exact.encode(patches)
    np.testing.assert_allclose(made.encode(patches), z, atol=0.01 * z.std())
    assert made.config["recipe"]["half_size"]


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    blobs: Screen, undisturbed: Path, tmp_path: Path
) -> None:
    assert equal(run(blobs, tmp_path / "again"), weights_of(undisturbed))

    assert not equal(run(blobs, tmp_path / "other", dataclasses.replace(RECIPE, seed=4)), weights_of(undisturbed))


def test_a_killed_training_goes_on_to_the_same_weights(blobs: Screen, undisturbed: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed"
    code = (
        "from pathlib import Path; from cytovae.learn import train as t; from cytovae.screen import Screen\n"
        f"t.train(Screen.open({str(blobs.path)!r}), Path({str(path)!r}), "
        "t.Recipe('vae+', iterations=8, batch_size=4, period=1, seed=3), "
        "machine=t.Machine(device='cpu', threads=1), pictures_every=0, checkpoint_every=3, "
        "progress=lambda done, total: print(done, flush=True))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "5":
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    with (path / trainings.LOG).open("a") as log:
        log.write('{"iteration": 5, "pix')
    with pytest.raises(TrainingError, match="holds an unfinished training; go on with --resume"):
        run(blobs, path)
    seen: list[int] = []
    resumed = run(blobs, path, resume=True, progress=lambda done, total: seen.append(done))
    assert seen[0] == 4
    assert equal(resumed, weights_of(undisturbed))
    for line in (path / trainings.LOG).read_text().splitlines():
        json.loads(line)


def test_the_best_recipe_leaves_averages_over_the_cells_seen(blobs: Screen) -> None:
    trainer = trainings.Trainer(BEST, 3)
    expected = [p.detach().clone() for p in trainer.nets.autoencoder_parameters()]
    for iteration in range(4):
        trainer.step(*batch(3))
        share = 1 - min(np.exp(-BEST.batch_size / 10), (iteration + 1) / (iteration + 10))
        for mean, now in zip(expected, trainer.nets.autoencoder_parameters(), strict=True):
            mean += share * (now.detach() - mean)
    finished = trainer.finished(batches_of(blobs, BEST))
    for left, mean, last in zip(
        finished.autoencoder_parameters(), expected, trainer.nets.autoencoder_parameters(), strict=True
    ):
        torch.testing.assert_close(left.detach(), mean)
        assert not torch.equal(left, last)


def test_pixels_weigh_more_while_annealing_and_those_of_the_frame_most() -> None:
    recipe = dataclasses.replace(BEST, iterations=4, anneal=0.5, anneal_pixels=10.0, anneal_frame=4.0)
    trainer = trainings.Trainer(recipe, 3)
    b1, b2, noise = batch(3)
    weights = []
    for _ in range(4):
        weights.append(trainer.pixel_weights(b1))
        trainer.step(b1, b2, noise)
    assert weights[0] is weights[1] is None
    for found in weights[2:]:
        assert found is not None
        y, x = np.mgrid[:68, :68]
        frame = (np.minimum(y, 67 - y) < 4) | (np.minimum(x, 67 - x) < 4)
        np.testing.assert_array_equal(found.numpy(), np.where(frame, 40.0, 10.0))
    assert trainings.Trainer(dataclasses.replace(recipe, anneal=0.0), 3).pixel_weights(b1) is None
    alone = trainings.Trainer(dataclasses.replace(recipe, model="vae"), 3)
    alone.iteration = 3
    assert alone.pixel_weights(b1) is None  # pixels are all that a VAE looks at beside the KL term


def test_annealing_lowers_both_rates_to_their_end_and_averages_over_itself_alone() -> None:
    recipe = dataclasses.replace(BEST, iterations=8, anneal=0.5)
    trainer = trainings.Trainer(recipe, 3)
    rates = []
    for _ in range(8):
        trainer.step(*batch(3))
        rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers().values()])
        if trainer.iteration == 4:
            expected = [p.detach().clone() for p in trainer.nets.autoencoder_parameters()]
        if trainer.iteration > 4:
            seen = trainer.iteration - 5
            share = 1 - min(np.exp(-recipe.batch_size / 10), (seen + 1) / (seen + 10))
            for mean, now in zip(expected, trainer.nets.autoencoder_parameters(), strict=True):
                mean += share * (now.detach() - mean)
    fall = [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(rates, [[0.001 * f, 0.01 * f] for f in fall])
    for kept, mean in zip(trainer.averages, expected, strict=True):
        torch.testing.assert_close(kept, mean)


def test_the_best_recipe_takes_its_moments_anew_over_balanced_batches(blobs: Screen) -> None:
    trainer = trainings.Trainer(BEST, 3)
    trainer.step(*batch(3))
    batches = batches_of(blobs, BEST)
    finished = trainer.finished(batches)
    x = torch.cat([batches.draw_for_moments(number)[0] for number in range(2)])
    first = torch.nn.functional.conv2d(x, finished.encoder.stem.kernels[0])
    norm = finished.encoder.stem.norms[0]
    torch.testing.assert_close(norm.running_mean, first.mean(dim=(0, 2, 3)).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        norm.running_var, first.var(dim=(0, 2, 3), unbiased=False).detach(), rtol=1e-4, atol=1e-5
    )
    assert all(
        torch.equal(a.running_mean, b.running_mean)
        for a, b in zip(finished.norms(), trainer.finished(batches).norms(), strict=True)
    )


def test_a_killed_training_of_the_best_recipe_goes_on_to_the_same_weights(blobs: Screen, tmp_path: Path) -> None:
    whole = run(blobs, tmp_path / "whole", BEST, checkpoint_every=3)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        run(blobs, tmp_path / "cut", BEST, checkpoint_every=3, progress=kill)
    resumed = run(blobs, tmp_path / "cut", BEST, checkpoint_every=3, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_snapshots_are_of_validation_wells_that_are_neither_trained_on_nor_held_out(
    blobs: Screen, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(BEST, validation=0.3)
    trainings.train(blobs, tmp_path / "m", recipe, machine=CPU, pictures_every=4)
    lines = [json.loads(line) for line in (tmp_path / "m" / trainings.SNAPSHOTS).read_text().splitlines()]
    cells = blobs.cells()
    choosing = sampling.validation_wells(cells, recipe.held_out, recipe.validation)
    inside = sampling.well_names(cells).isin(choosing) & ~cells[schema.BLANK]
    assert [(line["iteration"], line["n_cells"]) for line in lines] == [(4, inside.sum()), (8, inside.sum())]
    config = bundles.load(tmp_path / "m").config
    assert choosing
    assert not {*choosing} & {*config["split"]["held_out_wells"]}
    assert config["data"]["n_training_cells"] == (~cells[schema.BLANK]).sum() - inside.sum() - sum(
        sampling.well_names(cells).isin(config["split"]["held_out_wells"]) & ~cells[schema.BLANK]
    )


def test_a_checkpoint_of_another_recipe_is_refused(blobs: Screen, tmp_path: Path) -> None:
    trainer = trainings.Trainer(RECIPE, 3)
    trainer.step(*batch())
    (tmp_path / "x").mkdir()
    trainings.write_checkpoint(tmp_path / "x" / trainings.CHECKPOINT, trainer, {"recipe": "{}", "cells": "c"})
    with pytest.raises(TrainingError, match="is of another recipe"):
        run(blobs, tmp_path / "x", resume=True)


def test_a_broken_checkpoint_is_named(blobs: Screen, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / trainings.CHECKPOINT).write_bytes(b"no checkpoint at all")
    with pytest.raises(TrainingError, match=r"cannot be read: .*start again with --overwrite"):
        run(blobs, tmp_path / "x", resume=True)


def test_divergence_stops_with_iteration_term_and_last_checkpoint(
    blobs: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = trainings.Batches.draw

    def poisoned(self: trainings.Batches, iteration: int) -> tuple[torch.Tensor, ...]:
        b1, b2, noise = draw(self, iteration)
        return (b1 * float("nan") if iteration == 5 else b1), b2, noise

    monkeypatch.setattr(trainings.Batches, "draw", poisoned)
    with pytest.raises(
        TrainingError, match=r"diverged at iteration 5: the pixel term is nan; the last good checkpoint is .*x"
    ):
        run(blobs, tmp_path / "x", checkpoint_every=2)
    trainer = trainings.Trainer(RECIPE, 3)
    from safetensors import safe_open

    with safe_open(tmp_path / "x" / trainings.CHECKPOINT, "pt") as handle:
        header = handle.metadata()
    assert header["iteration"] == "4"
    trainings.read_checkpoint(tmp_path / "x" / trainings.CHECKPOINT, trainer, {})
    assert all(bool(torch.isfinite(p).all()) for p in trainer.nets.parameters())


def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path: Path) -> None:
    trainer = trainings.Trainer(RECIPE, 3)
    with torch.no_grad():
        trainer.nets.encoder.head[0, 0, 0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"diverged by iteration 0: nets.encoder.head is not finite"):
        trainings.write_checkpoint(tmp_path / "c", trainer, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    trainer = trainings.Trainer(RECIPE, 3)
    path = tmp_path / trainings.CHECKPOINT
    trainings.write_checkpoint(path, trainer, {})
    before = path.read_bytes()
    trainer.step(*batch())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TrainingError, match=r"iteration 1 could not be written .* is intact; free some space"):
            trainings.write_checkpoint(path, trainer, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [trainings.CHECKPOINT]


def test_decay_shrinks_kernels_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainings.Trainer(RECIPE, 3)
    before = {name: p.detach().clone() for name, p in trainer.nets.named_parameters()}
    for optimizer in trainer.optimizers().values():
        monkeypatch.setattr(optimizer, "step", lambda: None)
    trainer.step(*batch())
    for name, p in trainer.nets.named_parameters():
        expected = before[name] * (1 - 1e-4) if p.dim() == 4 else before[name]
        assert torch.equal(p.detach(), expected), name


def test_one_step_moves_each_group_by_its_optimizer() -> None:
    trainer = trainings.Trainer(RECIPE, 3)
    reference = trainings.Trainer(RECIPE, 3)
    b1, b2, noise = batch()
    found = trainings.autoencoders.training_step(reference.nets, b1, b2, noise, 2.0, [])
    trainer.step(b1, b2, noise)
    for after, before, g in zip(
        trainer.nets.autoencoder_parameters(),
        reference.nets.autoencoder_parameters(),
        found.autoencoder_gradients,
        strict=True,
    ):
        moved = before.detach() - 0.001 * g / (g.abs() + 1e-7)
        shrunk = moved * (1 - 1e-4) if before.dim() == 4 else moved
        torch.testing.assert_close(after.detach(), shrunk, rtol=1e-4, atol=1e-6)
    for after, before, g in zip(
        trainer.nets.discriminator_parameters(),
        reference.nets.discriminator_parameters(),
        found.discriminator_gradients,
        strict=True,
    ):
        moved = before.detach() - 0.01 * g
        torch.testing.assert_close(
            after.detach(), moved * (1 - 1e-4) if before.dim() == 4 else moved, rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize(("iteration", "layers"), [(0, 0), (3, 0), (4, 1), (6, 1), (7, 2), (11, 3), (15, 4), (30, 4)])
def test_a_step_takes_the_schedule_at_its_own_iteration(
    iteration: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    real = trainings.autoencoders.training_step

    def spied(*arguments: object) -> object:
        given.append(arguments[5])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainings.autoencoders, "training_step", spied)
    trainer = trainings.Trainer(dataclasses.replace(RECIPE, period=3), 3)
    trainer.iteration = iteration
    terms = trainer.step(*batch(2))
    wanted = [g for g in (min(max(0.0, iteration / 3 - i), 1.0) for i in range(1, 5)) if g > 0]
    assert given == [pytest.approx(wanted)]
    assert sum(name.startswith("similarity") for name in terms) == layers == len(wanted)


def test_a_step_moves_the_running_averages_a_tenth_of_the_way() -> None:
    trainer, reference = trainings.Trainer(RECIPE, 3), trainings.Trainer(RECIPE, 3)
    before = [(n.running_mean.clone(), n.running_var.clone()) for n in trainer.nets.norms()]
    found = trainings.autoencoders.training_step(reference.nets, *batch(), 2.0, [])
    trainer.step(*batch())
    for norm, (mean, var), seen in zip(trainer.nets.norms(), before, found.moments, strict=True):
        torch.testing.assert_close(norm.running_mean, 0.9 * mean + 0.1 * seen.mean.detach())
        torch.testing.assert_close(norm.running_var, 0.9 * var + 0.1 * seen.var.detach())


def test_the_public_implementations_rates_are_the_papers_swapped() -> None:
    paper, swapped = (trainings.Trainer(trainings.Recipe("vae+", rates=r), 3) for r in ("paper", "implementation"))
    assert [o.param_groups[0]["lr"] for o in paper.optimizers().values()] == [0.001, 0.01]
    assert [o.param_groups[0]["lr"] for o in swapped.optimizers().values()] == [0.01, 0.001]
    assert paper.adam.param_groups[0]["eps"] == 1e-7


def test_the_first_batch_does_not_move_the_discriminators_averages() -> None:
    one, other = trainings.Trainer(RECIPE, 3), trainings.Trainer(RECIPE, 3)
    for trainer in (one, other):
        trainer.iteration = 7
    b1, b2, noise = batch()
    assert one.nets.discriminator is not None
    assert other.nets.discriminator is not None
    first = trainings.autoencoders.training_step(one.nets, b1, b2, noise, 2.0, [1.0] * 4)
    with torch.no_grad():
        mean, logvar, _ = one.nets.encoder(b1)
        made, _ = one.nets.decoder(mean + torch.exp(0.5 * logvar) * noise)
        _, _, balanced = other.nets.discriminator(torch.cat([b2, made]))
    for used, expected in zip(first.moments[-5:], balanced, strict=True):
        torch.testing.assert_close(used.mean, expected.mean)


def test_two_processes_get_what_one_gets(blobs: Screen, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, iterations=3)  # few: rounding grows from step to step
    run(blobs, tmp_path / "alone", recipe)
    path = tmp_path / "shared"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from pathlib import Path; from cytovae.learn import train as t; from cytovae.screen import Screen\n"
        f"t.train(Screen.open({str(blobs.path)!r}), Path({str(path)!r}), "
        "t.Recipe('vae+', iterations=3, batch_size=4, period=1, seed=3), "
        "machine=t.Machine(device='cpu', devices=2, threads=1), pictures_every=0)"
    )
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={
                **environment,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "NODE_RANK": "0",
                "GROUP_RANK": "0",
                "LOCAL_WORLD_SIZE": "2",
                "TORCHELASTIC_RUN_ID": "test",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for child in children:
        _, errors = child.communicate(timeout=300)
        assert child.returncode == 0, errors
    lines = [json.loads((p / trainings.LOG).read_text().splitlines()[-1]) for p in (path, tmp_path / "alone")]
    for name in ("pixel", "kl", "similarity1", "discriminator"):
        assert lines[0][name] == pytest.approx(lines[1][name], rel=1e-3), name
    together, alone = weights_of(path), weights_of(tmp_path / "alone")
    start = networks.arrays_of(trainings.Trainer(recipe, 3).nets)
    for name in alone:
        moved = np.linalg.norm(alone[name] - start[name])
        assert np.linalg.norm(together[name] - alone[name]) <= 0.05 * moved, name


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"device": "cuda:7"}, "this machine cannot train on cuda:7: "),
        ({"device": "abacus"}, "this machine cannot train on abacus: "),
        ({"device": "cpu:0"}, "'cpu:0' names no single GPU; give cuda:N alone, or cuda with --devices"),
        ({"device": "cuda:x"}, "'cuda:x' names no single GPU"),
        ({"device": "auto:0"}, "'auto:0' names no single GPU"),
        ({"device": "cuda:0", "devices": 2}, "'cuda:0' names no single GPU"),
        ({"device": "cpu", "devices": 0}, "devices is at least 1, not 0"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(machine: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        trainings.Machine(**machine).fabric("32-true")  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_patches_of_another_size_are_refused_before_anything_is_written(blobs: Screen, tmp_path: Path) -> None:
    screen = Screen.create(tmp_path / "s.screen", dataclasses.replace(blobs.record, patch_size_px=64))
    with pytest.raises(TrainingError, match=r"s.screen: the networks take patches of 36, .*, not 64; ingest"):
        run(screen, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 5 cannot be shared out equally over 2 processes"):
        trainings.Batches(None, trainings.Recipe("vae", batch_size=5), 0, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"iterations": 0}, "iterations is at least 1, not 0"),
        ({"batch_size": 1}, "at least 2 patches, not 1"),
        ({"rates": "fast"}, "rates is one of paper, implementation, not 'fast'"),
        ({"held_out": 1.0}, "a share from 0 to below 1, not 1.0"),
        ({"precision": "64"}, "precision is one of 32-true, bf16-mixed, not '64'"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainings.Recipe("vae", **option)  # type: ignore[arg-type]


def test_mixed_precision_trains_with_single_precision_weights(blobs: Screen, tmp_path: Path) -> None:
    recipe = trainings.Recipe("vae+", iterations=3, batch_size=4, period=1, precision="bf16-mixed")
    weights = run(blobs, tmp_path / "x", recipe)
    assert all(w.dtype == np.float32 and np.isfinite(w).all() for w in weights.values())


def test_pictures_and_tensorboard_events_are_written(blobs: Screen, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = trainings.Recipe("ae", iterations=2, batch_size=4)
    trainings.train(blobs, tmp_path / "x", recipe, machine=CPU, pictures_every=1, tensorboard=True)
    assert sorted(p.name for p in (tmp_path / "x" / "samples").iterdir()) == ["000001.png", "000002.png"]
    assert list((tmp_path / "x" / "tensorboard").glob("events*"))


def test_loading_a_batch_takes_little_of_a_step(blobs: Screen) -> None:
    from cytovae.learn import sampling
    from cytovae.patches import PatchStore

    cells = blobs.cells()
    sampler = sampling.TreatmentSampler(
        PatchStore(blobs.patches_path), np.arange(len(cells)), cells["Metadata_Treatment"].to_list()
    )
    batches = trainings.Batches(sampler, trainings.Recipe("vae+", batch_size=32))
    batches.draw(0)
    started = time.process_time()
    for iteration in range(5):
        b1, b2, noise = batches.draw(iteration)
    loading = (time.process_time() - started) / 5
    trainer = trainings.Trainer(trainings.Recipe("vae+", batch_size=32), 3)
    started = time.process_time()
    trainer.step(b1, b2, noise)
    assert loading < 0.05 * (time.process_time() - started)
    assert noise.shape == (32, blocks.LATENT_SIZE)
