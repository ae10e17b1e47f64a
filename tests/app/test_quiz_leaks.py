"""Attacks on decks: classifiers trained on some and judged on others, by all that reaches a browser but pixels."""

from __future__ import annotations

import random
import secrets
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.quiz.card import pack
from cytovae.quiz import deck, leaks
from cytovae.quiz.answers import Store

from ..quiz.conftest import Betraying, Screen

CHANNELS = ("DNA", "Tubulin", "Actin")
DECKS, EACH = 24, 30


def small_screen() -> tuple[Screen, Betraying]:
    generator = Betraying((12, 12, 3))
    return Screen(edge_px=12, counts=(60, 60, 60, 60)), generator


def told(store: Store, dealt: deck.Deck) -> pd.DataFrame:
    """What a browser can weigh of every card before the end."""
    token = store.open_deck(dealt, rater="Ada", expertise="", screen="s", model="m", channels=CHANNELS)
    rows = []
    for position in range(len(dealt.cards)):
        card, state = store.card(token), store.state(token)
        message = np.frombuffer(pack(card.picture, card.position, state.n_cards, state.channels), np.uint8)
        rows.append(
            {
                "position": card.position,
                "bytes": len(message),
                "zlib": len(zlib.compress(message.tobytes())),
                "mean byte": message.mean(),
                "odd bytes": (message % 2).mean(),
                "neighbours alike": (np.diff(message.astype(int)) == 0).mean(),
                "seed": float(int.from_bytes(message[12:16].tobytes(), "little")),
                "token": sum(map(ord, token)),
                "state": len(repr(state)),
            }
        )
        store.answer(token, position, True)
    return pd.DataFrame(rows)


def test_an_attack_on_all_that_is_not_pixels_tells_nothing_on_fresh_decks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)  # for the seeds of messages and for tokens: the same verdict every time
    monkeypatch.setattr(secrets, "randbits", chance.getrandbits)
    monkeypatch.setattr(secrets, "token_urlsafe", lambda n: chance.randbytes(n).hex())
    screen, generator = small_screen()
    store = Store(f"sqlite:///{tmp_path / 'quiz.sqlite'}")
    tables, truth, pixels = [], [], []
    for seed in range(DECKS):
        options = deck.DeckOptions(EACH, EACH, hidden_px=1, protocol=list(deck.DeckProtocol)[seed % 2])
        dealt = deck.deal(screen.cells, screen.read, generator, np.random.default_rng(seed), options)
        tables.append(told(store, dealt))
        truth.append(dealt.cards["synthetic"].to_numpy())
        pixels.append(leaks.pixel_statistics(dealt.pictures, deck.window((12, 12), 1)))
    store.close()
    half = DECKS // 2
    known, fresh = np.concatenate(truth[:half]), np.concatenate(truth[half:])
    got = leaks.attack(pd.concat(tables[:half]), known, pd.concat(tables[half:]), fresh)
    assert abs(got.auc - 0.5) < 0.05, got  # 360 + 360 fresh cards: s.d. 0.022
    assert abs(got.single_auc - 0.5) < 0.05, got
    # and the attack can succeed: this generator's blur is in the pixels, where a rater is meant to look
    seen = leaks.attack(pd.concat(pixels[:half]), known, pd.concat(pixels[half:]), fresh)
    assert seen.auc > 0.75, seen


def test_an_attack_finds_a_leak_that_was_planted() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    table = pd.DataFrame({"noise": rng.normal(size=400), "bytes": 1000 + truth})
    got = leaks.attack(table[:200], truth[:200], table[200:], truth[200:])
    assert (got.auc, got.single, got.single_auc, got.n_train, got.n_fresh) == (1.0, "bytes", 1.0, 200, 200)


def test_auc_counts_pairs() -> None:
    values, truth = [3.0, 1.0, 2.0, 2.0], [True, False, True, False]
    assert leaks.auc(values, truth) == (1 + 1 + 1 + 0.5) / 4
