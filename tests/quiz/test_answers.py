"""Decks and answers in a database: saved at once, never twice, resumed by link, silent about the truth."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from cytovae import schema
from cytovae.errors import QuizError
from cytovae.quiz import answers, deck, score
from cytovae.quiz.answers import Store
from cytovae.quiz.deck import Deck, DeckOptions, DeckProtocol

from .conftest import Identity, Screen

SMALL = Screen(edge_px=8)


def dealt(seed: int = 0, n_each: int = 4) -> Deck:
    return deck.deal(
        SMALL.cells,
        SMALL.read,
        Identity((8, 8, 3)),
        np.random.default_rng(seed),
        DeckOptions(n_each, n_each, hidden_px=1),
    )


def opened(store: Store, rater: str = "Ada", seed: int = 0, n_each: int = 4, model: str = "vaeplus") -> str:
    return store.open_deck(
        dealt(seed, n_each),
        rater=rater,
        expertise="Cell biologist",
        screen="Small",
        model=model,
        channels=("DNA", "Tubulin", "Actin"),
    )


def answer_all(store: Store, token: str, called_real: bool = True) -> None:
    for position in range(store.state(token).n_answered, store.state(token).n_cards):
        store.answer(token, position, called_real)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def test_cards_come_in_order_with_the_pictures_that_were_dealt(store: Store) -> None:
    want, token = dealt(), opened(store)
    for position in range(8):
        shown = store.card(token)
        assert shown.position == position
        assert (shown.picture == want.pictures[position]).all()
        assert shown.picture.dtype == np.uint8
        store.answer(token, position, True)
    with pytest.raises(QuizError, match="all 8 cards of this deck are answered"):
        store.card(token)


def test_an_answer_is_on_disk_before_the_next_card(url: str, store: Store) -> None:
    token = opened(store)
    store.answer(token, 0, False, 1.25)
    engine = sa.create_engine(url)  # another connection, as after a crash
    with engine.connect() as connection:
        row = connection.execute(sa.text("SELECT position, called_real, seconds FROM answers")).one()
    engine.dispose()
    assert (row[0], bool(row[1]), row[2]) == (0, False, 1.25)


def test_there_is_no_way_back(store: Store) -> None:
    token = opened(store)
    store.answer(token, 0, True)
    with pytest.raises(QuizError, match="card 1 of this deck is answered already; an answer cannot be changed"):
        store.answer(token, 0, False)
    assert store.state(token).n_answered == 1


@pytest.mark.parametrize("position", [2, 7, 8, 99])
def test_a_card_out_of_turn_is_refused(store: Store, position: int) -> None:
    token = opened(store)
    store.answer(token, 0, True)
    with pytest.raises(QuizError, match=f"card {position + 1} is not the one to answer; the deck is at card 2"):
        store.answer(token, position, True)


def test_a_finished_deck_takes_no_more_answers(store: Store) -> None:
    token = opened(store)
    answer_all(store, token)
    with pytest.raises(QuizError, match="answered already"):
        store.answer(token, 7, True)
    with pytest.raises(QuizError, match="not the one to answer"):
        store.answer(token, 8, True)


def test_the_link_resumes_in_another_process(url: str, store: Store) -> None:
    token = opened(store)
    store.answer(token, 0, True)
    code = (
        "import sys; from cytovae.quiz.answers import Store; s = Store(sys.argv[1]); t = sys.argv[2]\n"
        "print(s.card(t).position, s.answer(t, 1, False).n_answered)"
    )
    said = subprocess.run([sys.executable, "-c", code, url, token], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "2"]
    assert store.card(token).position == 2


def test_before_the_end_nothing_tells_the_truth(store: Store) -> None:
    token = opened(store)
    answer_all(store, opened(store, "Bob", seed=1))
    for _ in range(7):
        state = store.answer(token, store.state(token).n_answered, True)
        assert not set(dataclasses.asdict(state)) & {"synthetic", "seed", "cell_id", "cards", "treatment", "moa"}
        with pytest.raises(QuizError, match="the result is told"):
            store.result(token)
        assert set(store.calls()["rater"]) == {"Bob"}
    assert not set(dataclasses.asdict(store.card(token))) - {"position", "picture"}
    store.answer(token, 7, True)
    assert set(store.calls()["rater"]) == {"Ada", "Bob"}


def test_state_and_card_of_mirrored_decks_differ_in_nothing_but_pixels(store: Store) -> None:
    """The same deck with truth turned round: everything a page can ask for before the end is the same."""
    one = dealt()
    turned = dataclasses.replace(one, cards=one.cards.assign(synthetic=~one.cards["synthetic"]))
    told = []
    for which in (one, turned):
        token = store.open_deck(
            which, rater="Ada", expertise="", screen="Small", model="m", channels=("DNA", "Tubulin", "Actin")
        )
        seen: list[Any] = [len(token)]
        for position in range(7):
            card = store.card(token)
            state = dataclasses.replace(store.answer(token, position, True), created=None)  # type: ignore[arg-type]
            seen.append((card.position, card.picture.tobytes(), state))
        told.append(seen)
    assert told[0] == told[1]


def test_the_result_holds_answers_and_truth_side_by_side(store: Store) -> None:
    want, token = dealt(), opened(store)
    said = np.random.default_rng(0).random(8) < 0.5
    for position in range(8):
        store.answer(token, position, bool(said[position]), float(position))
    calls, pictures = store.result(token)
    assert tuple(calls.columns) == answers.CALL_COLUMNS
    assert calls["called_real"].tolist() == said.tolist()
    assert calls["seconds"].tolist() == list(range(8))
    for column in (schema.CELL_ID, schema.TREATMENT, schema.MOA, "synthetic"):
        assert calls[column].tolist() == want.cards[column].tolist()
    assert (pictures == want.pictures).all()
    truth = want.cards["synthetic"].to_numpy()
    assert score.score(calls).fooled.k == int((said & truth).sum())


def test_pooled_calls_are_those_of_finished_decks_of_a_model(store: Store) -> None:
    answer_all(store, opened(store, "Ada"), True)
    answer_all(store, opened(store, "Bob", seed=1), False)
    answer_all(store, opened(store, "Cleo", model="ae"), True)
    store.answer(opened(store, "Dan"), 0, True)
    assert store.unfinished() == 1
    pooled = store.calls(screen="Small", model="vaeplus")
    assert set(pooled["rater"]) == {"Ada", "Bob"}
    assert score.score(pooled).fooled.share == 0.5
    assert len(store.calls()) == 24
    assert store.calls(screen="Other").empty


def test_no_token_stands_in_what_is_listed(store: Store) -> None:
    token = opened(store)
    answer_all(store, token)
    assert token not in store.calls().to_csv()


def test_tokens_are_long_and_never_the_same(store: Store) -> None:
    tokens = {opened(store, seed=s) for s in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 24


@pytest.mark.parametrize("token", ["", "nonsense", "' OR 1=1 --"])
def test_an_unknown_link_is_refused_in_words(store: Store, token: str) -> None:
    opened(store)
    for ask in (store.state, store.card, store.result, lambda t: store.answer(t, 0, True)):
        with pytest.raises(QuizError, match="this link does not lead to a deck"):
            ask(token)


def test_the_same_link_open_twice_saves_one_answer_per_card(store: Store) -> None:
    token = opened(store, n_each=10)
    refused = []

    def impatient(called_real: bool) -> None:
        for position in range(20):
            try:
                store.answer(token, position, called_real)
            except QuizError as known:
                refused.append(str(known))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(impatient, [True, False, True, False]))
    while not store.state(token).finished:  # a thread that ran ahead of the others was refused as out of turn
        store.answer(token, store.state(token).n_answered, True)
    calls, _ = store.result(token)
    assert calls["position"].tolist() == list(range(20))
    assert all("answered already" in r or "not the one to answer" in r for r in refused)
    assert len(refused) >= 60


def test_many_raters_at_once_keep_their_own_answers(url: str) -> None:
    gate = threading.Barrier(8, timeout=30)

    def rate(k: int) -> str:
        own = Store(url)  # as a process of its own would
        gate.wait()
        token = opened(own, f"rater {k % 4}", seed=k, n_each=5)
        for position in range(10):
            assert own.card(token).position == position
            own.answer(token, position, (position + k) % 2 == 0)
        own.close()
        return token

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(rate, range(8)))
    store = Store(url)
    for k, token in enumerate(tokens):
        calls, pictures = store.result(token)
        assert calls["called_real"].tolist() == [(p + k) % 2 == 0 for p in range(10)]
        assert (pictures == dealt(k, 5).pictures).all()
    assert store.calls()["rater"].nunique() == 4
    store.close()


def test_cells_seen_and_cells_in_play(store: Store) -> None:
    token = opened(store, "Ada")
    mine = set(dealt().cards[schema.CELL_ID])
    assert store.cells_seen("  Ada ", "Small") == mine
    assert store.cells_seen("Bob", "Small") == store.cells_seen("Ada", "Other") == frozenset()
    assert store.cells_in_play("Small") == mine
    answer_all(store, token)
    assert store.cells_in_play("Small") == frozenset()
    assert store.cells_seen("Ada", "Small") == mine


def hours_later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Let the store's clock run on."""
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    monkeypatch.setattr(answers, "_now", lambda: moment)


def test_a_deck_takes_answers_until_its_last_hour(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    token = opened(store)
    hours_later(monkeypatch, answers.OPEN_HOURS - 0.1)
    assert not store.answer(token, 0, True).ended
    assert store.cells_in_play("Small")
    hours_later(monkeypatch, answers.OPEN_HOURS + 0.1)
    state = store.state(token)
    assert state.ended
    assert not state.finished
    assert state.open_until - state.created == dt.timedelta(days=1)
    said = rf"this quiz was open until {state.open_until.day} \w+ \d+, \d\d:\d\d UTC, with 1 of 8 cards answered"
    for ask in (store.card, store.result, store.end, lambda t: store.answer(t, 1, True)):
        with pytest.raises(QuizError, match=said):
            ask(token)
    assert store.cells_in_play("Small") == frozenset()  # the veil ends
    assert store.open_decks() == []
    assert store.calls().empty
    assert store.unfinished() == 1


def test_a_finished_deck_never_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    token = opened(store)
    answer_all(store, token)
    hours_later(monkeypatch, 24_000)
    assert not store.state(token).ended
    assert len(store.result(token)[0]) == len(store.calls()) == 8


def test_who_opened_a_deck_can_close_it_and_nobody_else(store: Store) -> None:
    mine, other = opened(store, "Ada"), opened(store, "Bob", seed=1)
    store.answer(mine, 0, True)
    assert [(d.rater, d.n_answered) for d in store.open_decks()] == [("Ada", 1), ("Bob", 0)]
    for guess in ("1", "Ada", mine[:-1], mine.lower() + "x"):
        with pytest.raises(QuizError, match="does not lead to a deck"):
            store.end(guess)
    store.end(mine)
    assert [d.rater for d in store.open_decks()] == ["Bob"]
    assert store.cells_in_play("Small") == set(dealt(1).cards[schema.CELL_ID])
    assert store.state(mine).closed
    for ask in (store.card, store.result, store.end, lambda t: store.answer(t, 1, True)):
        with pytest.raises(QuizError, match="this quiz was closed by its rater, with 1 of 8 cards answered"):
            ask(mine)
    assert store.answer(other, 0, True).n_answered == 1
    answer_all(store, other)
    with pytest.raises(QuizError, match="there is nothing to close"):
        store.end(other)
    assert set(store.calls()["rater"]) == {"Bob"}


def test_no_token_opens_a_deck_from_what_is_listed(store: Store) -> None:
    token = opened(store)
    assert token not in repr(store.open_decks())


def test_permission_to_keep_a_name_is_asked_for_once(store: Store) -> None:
    assert not store.may_keep("Ada")
    store.keep_name(" Ada ")
    store.keep_name("Ada")
    assert store.may_keep("  Ada")
    assert not store.may_keep("Bob")
    assert answers.alias() != answers.alias()


def test_calls_say_how_their_cards_were_drawn(store: Store) -> None:
    for k, protocol in enumerate(DeckProtocol):
        options = DeckOptions(4, 4, protocol=protocol, hidden_px=k)
        made = deck.deal(SMALL.cells, SMALL.read, Identity((8, 8, 3)), np.random.default_rng(k), options)
        token = store.open_deck(
            made, rater="Ada", expertise="", screen="Small", model="m", channels=("DNA", "Tubulin", "Actin")
        )
        assert (store.state(token).protocol, store.state(token).hidden_px) == (protocol, k)
        answer_all(store, token)
    got = store.calls().groupby("protocol")["hidden_px"].agg(["min", "max", "size"])
    assert got.to_dict("index") == {
        "matched": {"min": 0, "max": 0, "size": 8},
        "as decoded": {"min": 1, "max": 1, "size": 8},
    }


def test_a_database_of_the_first_release_goes_on(url: str) -> None:
    """It knows nothing of protocols, closing and permissions: its decks were matched and showed whole patches."""
    first = Store(url)
    token = opened(first)
    first.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE closed"))
        connection.execute(sa.text("DROP TABLE permissions"))
        old = '{"n_real": 4, "n_synthetic": 4, "clip_percent": 0.5}'
        connection.execute(
            sa.text("UPDATE decks SET options = " + ("CAST(:old AS JSON)" if "postgres" in url else ":old")).bindparams(
                old=old
            )
        )
    engine.dispose()
    store = Store(url)
    answer_all(store, token)
    calls = store.calls()
    assert set(calls["protocol"]) == {"matched"}
    assert set(calls["hidden_px"]) == {0}
    store.close()


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_rater_needs_a_name(store: Store, name: str) -> None:
    with pytest.raises(QuizError, match="a rater has a name or alias of 1 to 100 letters"):
        opened(store, name)


def test_names_in_any_script_survive(store: Store) -> None:
    answer_all(store, opened(store, "  Zoë   Ω 細胞  "))
    assert store.calls()["rater"].unique().tolist() == ["Zoë Ω 細胞"]


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(QuizError, match="in memory would forget"):
        Store("sqlite://")


@pytest.mark.parametrize("url", ["quiz.sqlite", "nosuch://host/db", "sqlite:////proc/nowhere/quiz.sqlite"])
def test_a_database_that_cannot_be_is_refused_in_words(url: str) -> None:
    with pytest.raises(QuizError, match="the quiz database"):
        Store(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quiz.sqlite").write_text("not a database, " * 100)
    with pytest.raises(QuizError, match="file is not a database"):
        Store(f"sqlite:///{tmp_path / 'quiz.sqlite'}")


def test_the_password_is_never_shown() -> None:
    with pytest.raises(QuizError) as refused:
        Store("postgresql+psycopg://user:secret@127.0.0.1:1/quiz?connect_timeout=1")
    assert "secret" not in str(refused.value)


def test_the_default_database_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert answers.default_url() == f"sqlite:///{tmp_path / 'cytovae' / 'quiz.sqlite'}"
    Store(answers.default_url()).close()
    assert (tmp_path / "cytovae" / "quiz.sqlite").exists()


def test_more_raters_than_connections_are_told_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "RATERS_AT_ONCE", answers.POOL + 1)
    store = answers.Store(f"sqlite:///{tmp_path / 'quiz.sqlite'}")
    monkeypatch.setattr(store._engine.pool, "_timeout", 0.05)
    taken = [store._engine.connect() for _ in range(answers.POOL + 1)]
    with pytest.raises(QuizError, match="every answer that was taken is kept, try again"):
        store.unfinished()
    for connection in taken:
        connection.close()
    assert store.unfinished() == 0
    store.close()
