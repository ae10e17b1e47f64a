"""Times the plain eager networks against ours in one run: training step, encoding, decoding, loading.

``python benchmarks/nets.py [--batch 104] [--threads 2] [--repeats 5] [--json FILE]``

Each side runs in a process of its own, because the allocator's settings are part of what is measured, and the two take
turns, so that a busy machine disturbs both alike. The best time of each is given, with the machine's peak on a matrix
product. What is timed is what users pay: normalisation included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MULTIPLICATIONS_ENCODE = 64**2 * 75 * 32 + 28**2 * 25 * 32**2 + 10**2 * 25 * 32**2 + 25 * 32 * 256
"""Of one cell, in the arithmetic of the layers as the paper draws them."""


def best(work: Callable[[], object], repeats: int) -> float:
    """The shortest of some runs (s), after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def plain_module() -> Any:
    """The plain networks, which the tests check ours against."""
    spec = importlib.util.spec_from_file_location("plain", ROOT / "tests" / "nets" / "plain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def time_plain(batch: int, repeats: int) -> dict[str, float]:
    """Eager, contiguous, as one would write it."""
    from cytovae.nets.autoencoders import Networks

    plain = plain_module()
    nets = Networks(3)
    nets.initialise(torch.Generator().manual_seed(0))
    b1, b2, noise = torch.rand(batch, 3, 68, 68), torch.rand(batch, 3, 68, 68), torch.randn(batch, 256)
    encoder = [n.running() for n in nets.encoder.norms()]
    decoder = [n.running() for n in nets.decoder.norms()]
    images = np.random.default_rng(0).integers(1, 9999, (256, 68, 68, 3)).astype(np.uint16)
    z = torch.randn(256, 256)

    def step() -> None:
        _, total, cross_entropy = plain.step(nets, b1, b2, noise, 2.0, [1.0] * 4)
        torch.autograd.grad(total, nets.autoencoder_parameters(), retain_graph=True)
        torch.autograd.grad(cross_entropy, nets.discriminator_parameters())

    def encode() -> None:
        x = images.astype(np.float32)
        x = x / np.maximum(x.max(axis=(1, 2), keepdims=True), 1)
        plain.encode(torch.from_numpy(x.transpose(0, 3, 1, 2)), nets.encoder, encoder)

    found = {"step_s": best(step, repeats)}
    with torch.inference_mode():
        found["encode_256_s"] = best(encode, repeats)
        found["decode_10_s"] = best(lambda: plain.decode(z[:10], nets.decoder, decoder), 3 * repeats)
        found["decode_256_s"] = best(lambda: plain.decode(z, nets.decoder, decoder), repeats)
    return found


def time_ours(batch: int, repeats: int) -> dict[str, float]:
    """What `cytovae train`, `embed` and the app run."""
    from cytovae.learn import bundle as bundles
    from cytovae.learn import train as trainings
    from cytovae.nets import autoencoders

    trainings.keep_memory()
    nets = autoencoders.Networks(3)
    nets.initialise(torch.Generator().manual_seed(0))
    autoencoders.channels_last(nets)
    b1, b2 = (torch.rand(batch, 68, 68, 3).permute(0, 3, 1, 2) for _ in range(2))
    noise = torch.randn(batch, 256)
    images = np.random.default_rng(0).integers(1, 9999, (256, 68, 68, 3)).astype(np.uint16)
    z = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        config = bundles.new_config("x", "vae+", ("a", "b", "c"), 256, 68, recipe={"iterations": 0, "batch_size": 0})
        bundles.save(Path(folder) / "x", bundles.network_arrays(nets), config, {})
        bundle = bundles.load(Path(folder) / "x")
    product = torch.rand(2048, 2048)
    return {
        "step_s": best(lambda: autoencoders.training_step(nets, b1, b2, noise, 2.0, [1.0] * 4), repeats),
        "encode_256_s": best(lambda: bundle.encode(images), repeats),
        "decode_10_s": best(lambda: bundle.decode(z[:10]), 3 * repeats),
        "decode_256_s": best(lambda: bundle.decode(z), repeats),
        "peak_gflops": 2 * 2048**3 / best(lambda: product @ product, repeats) / 1e9,
    }


def main() -> None:
    """Run both sides in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=104)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        torch.set_num_threads(options.threads)
        side = time_plain if options.side == "plain" else time_ours
        print(json.dumps(side(options.batch, options.repeats)))
        return
    times: dict[str, dict[str, float]] = {"plain": {}, "ours": {}}
    arguments = [f"--batch={options.batch}", f"--threads={options.threads}", f"--repeats={options.repeats}"]
    for _ in range(options.turns):
        for side_name, known in times.items():
            ran = subprocess.run(
                [sys.executable, __file__, *arguments, f"--side={side_name}"],
                check=True,
                capture_output=True,
                text=True,
            )
            for name, value in json.loads(ran.stdout).items():
                better = max if name == "peak_gflops" else min
                known[name] = better(value, known.get(name, value))
    peak = times["ours"].pop("peak_gflops")
    print(f"{options.threads} threads, batch {options.batch}, matrix product {peak:.0f} GFLOP/s")
    for name, ours in times["ours"].items():
        plain = times["plain"][name]
        print(f"{name:14s} plain {plain * 1e3:8.1f} ms   ours {ours * 1e3:8.1f} ms   x {plain / ours:.2f}")
    encode_s = times["ours"]["encode_256_s"]
    share = 2 * MULTIPLICATIONS_ENCODE * 256 / encode_s / 1e9 / peak
    print(f"encoding: {256 / encode_s:.0f} cells/s, {share:.0%} of the peak")
    if options.json:
        options.json.write_text(json.dumps({"peak_gflops": peak, "threads": options.threads, **times}, indent=1) + "\n")


if __name__ == "__main__":
    main()
