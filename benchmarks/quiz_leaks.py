"""How well a script tells real from synthetic cards without a person: attacks trained on decks, judged on fresh ones.

What is not pixels (messages, positions, states, times) must tell nothing: 0.5 +- 0.05, else it ends 1. What the pixels
tell is reported as what it is, by family of statistics and protocol, with the border shown and hidden.

    python benchmarks/quiz_leaks.py [SCREEN [MODEL ...]] [--decks 8] [--cards 50]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.quiz.card import pack
from cytovae.learn import bundle
from cytovae.patches import PatchStore
from cytovae.quiz import deck, leaks
from cytovae.quiz.answers import Store
from cytovae.screen import Screen

FAMILIES = ("border", "histogram", "spectrum", "zlib")


class Batched:
    """A bundle that is handed few patches at a time."""

    def __init__(self, model: Any, size: int = 64) -> None:
        self._model, self._size = model, size
        self.name = model.name

    def encode(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        parts = [images[i : i + self._size] for i in range(0, len(images), self._size)]
        return np.concatenate([self._model.encode(part) for part in parts])

    def decode(self, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.concatenate([self._model.decode(z[i : i + self._size]) for i in range(0, len(z), self._size)])


def all_that_is_not_pixels(store: Store, dealt: deck.Deck, rater: str) -> pd.DataFrame:
    """What a browser can measure of each card before its end without looking at the picture."""
    channels = tuple(f"channel {k}" for k in range(dealt.pictures.shape[3]))
    token = store.open_deck(dealt, rater=rater, expertise="", screen="s", model="m", channels=channels)
    rows = []
    for position in range(len(dealt.cards)):
        before = time.perf_counter()
        card, state = store.card(token), store.state(token)
        took = time.perf_counter() - before
        message = np.frombuffer(pack(card.picture, card.position, state.n_cards, channels), np.uint8)
        said = json.dumps([getattr(state, name) for name in ("rater", "screen", "model", "n_answered", "n_cards")])
        rows.append(
            {
                "position": card.position,
                "bytes": len(message),
                "zlib": len(zlib.compress(message.tobytes())),
                "mean byte": message.mean(),
                "spread of bytes": message.std(),
                "odd bytes": (message % 2).mean(),
                "seed": float(int.from_bytes(message[12:16].tobytes(), "little")),
                "neighbours alike": float((np.diff(message.astype(int)) == 0).mean()),
                "characters of the state": len(said),
                "letters of the token": sum(map(ord, token)),
                "seconds to fetch": took,
            }
        )
        store.answer(token, position, True)
    return pd.DataFrame(rows)


def simulated(folder: Path) -> Screen:
    """The phantom screen, as `cytovae demo` makes it."""
    raw, made = str(folder / "raw"), str(folder / "phantom.screen")
    for words in (["phantom", raw], ["ingest", "bbbc021", raw, made]):
        subprocess.run([sys.executable, "-m", "cytovae", *words], check=True)
    return Screen.open(made)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("screen", type=Path, nargs="?", help="a simulated one where none is given")
    asked.add_argument("models", nargs="*")
    asked.add_argument("--decks", type=int, default=8, help="half of them to train on, half to judge on")
    asked.add_argument("--cards", type=int, default=50, help="of either kind in a deck")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.screen is None:
            screen, models = simulated(Path(folder)), ["phantom-vaeplus"]
        else:
            screen, models = Screen.open(given.screen), given.models or ["bbbc021-vaeplus"]
        told = attack_all(screen, models, given.decks, given.cards, f"sqlite:///{folder}/quiz.sqlite")
    if abs(told - 0.5) > 0.05:
        sys.exit(f"what is not pixels tells the classes apart: AUC {told:.3f}, and 0.45 to 0.55 is the limit")


def attack_all(screen: Screen, models: list[str], n_decks: int, n_each: int, database: str) -> float:
    """Print every attack; the AUC of the one on all that is not pixels, over all models and ways of drawing."""
    cells, patches, store = screen.cells(), PatchStore(screen.patches_path), Store(database)
    others: dict[bool, list[pd.DataFrame]] = {True: [], False: []}
    truth: dict[bool, list[npt.NDArray[np.bool_]]] = {True: [], False: []}
    print("model, protocol, hidden px: statistics: AUC of all of them; the best single one and its AUC; n, n judged on")
    for name in models:
        generator = Batched(bundle.load(bundle.shipped_dir() / name))
        for p, protocol in enumerate(deck.DeckProtocol):
            for hidden in (0, deck.DeckOptions.hidden_px):
                pixels, known = [], []
                for seed in range(n_decks):
                    options = deck.DeckOptions(n_each, n_each, protocol=protocol, hidden_px=hidden)
                    rng = np.random.default_rng([p, hidden, seed])
                    dealt = deck.deal(cells, patches.read, generator, rng, options)
                    shown = deck.window(dealt.pictures.shape[1:3], hidden)
                    pixels.append(leaks.pixel_statistics(dealt.pictures, shown))
                    known.append(dealt.cards[deck.SYNTHETIC].to_numpy())
                    first = seed < n_decks // 2
                    others[first].append(all_that_is_not_pixels(store, dealt, f"rater {seed}"))
                    truth[first].append(known[-1])
                half = n_decks // 2
                for family in FAMILIES:
                    tables = [table[leaks.family(list(table), family)] for table in pixels]
                    found = leaks.attack(
                        pd.concat(tables[:half]),
                        np.concatenate(known[:half]),
                        pd.concat(tables[half:]),
                        np.concatenate(known[half:]),
                    )
                    report(f"{name}, {protocol}, {hidden}: {family}", found)
    store.close()
    found = leaks.attack(
        pd.concat(others[True]), np.concatenate(truth[True]), pd.concat(others[False]), np.concatenate(truth[False])
    )
    report("all of these: what is not pixels", found)
    return found.auc


def report(what: str, found: leaks.Attack) -> None:
    """One line of the table."""
    print(
        f"{what}: {found.auc:.3f}; {found.single} {found.single_auc:.3f}; {found.n_train}, {found.n_fresh}", flush=True
    )


if __name__ == "__main__":
    main()
