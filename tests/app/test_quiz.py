"""The Quiz page through the entry file, without a browser: start, cards, pause, result, all raters."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import os
import re
import struct
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from scipy import stats

from app.common import loaders, pixels
from app.common.components import cells as components
from app.common.words import plain
from app.explore import view as explorer
from app.quiz import card as cards
from app.quiz import quizzes
from app.reconstructions import compare
from cytovae import schema
from cytovae.explore.study import Request
from cytovae.learn import sampling
from cytovae.quiz import answers, score
from cytovae.quiz.answers import Store
from cytovae.quiz.deck import DeckProtocol
from cytovae.screen import Screen

App = Callable[..., Any]
CHANNELS = ("DNA", "Tubulin", "Actin")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages a browser would get; two buttons stand in for it, which AppTest can press."""
    messages: list[bytes] = []

    def mount(*, key: str, data: bytes, on_call_change: Callable[[], None]) -> None:
        messages.append(data)
        position = struct.unpack_from("<6H", data)[3]

        def call(real: bool) -> None:
            st.session_state[key] = {"call": {"position": position, "real": real, "seconds": 1.5}}
            on_call_change()

        st.button("Real", key="real", on_click=call, args=(True,))
        st.button("Synthetic", key="synthetic", on_click=call, args=(False,))

    monkeypatch.setattr(cards, "_mount", mount)
    return messages


@pytest.fixture
def quiz(app: App, tiny: Any, shown: list[bytes]) -> Callable[..., Any]:
    return lambda **link: app([tiny.screen], tiny.models, "quiz", **link)


def store() -> Store:
    return Store(os.environ["CYTOVAE_QUIZ_DB"])


def deck_of(test: Any) -> str:
    """The token in the address."""
    found = test.query_params["deck"]
    return found if isinstance(found, str) else str(found[0])


def begin(test: Any, rater: str = "Ada", n_each: int = 5) -> str:
    """Fill in the form and start; the deck's token."""
    test.text_input(key="rater").set_value(rater)
    test.button_group(key="n_each").set_value(n_each)
    next(b for b in test.button if b.label == "Start").click()
    test.run()
    if "deck" not in test.query_params:  # asked once for every name
        press(test, "Yes, keep it")
    return deck_of(test)


def press(test: Any, label: str) -> None:
    next(b for b in test.button if b.label == label).click()
    test.run()
    assert not test.exception


def finish(test: Any, calls: list[bool]) -> None:
    for real in calls:
        press(test, "Real" if real else "Synthetic")


def words(test: Any) -> str:
    kinds = (test.title, test.markdown, test.caption, test.info, test.warning, test.error, test.metric)
    return "\n".join(f"{getattr(e, 'label', '')} {e.value}" for kind in kinds for e in kind)


def test_start_offers_the_papers_deck_and_says_where_answers_go(quiz: Any) -> None:
    test = quiz()
    assert not test.exception
    assert not test.error
    assert test.button_group(key="n_each").value in (50, [50])
    assert {b.label for b in test.button} >= {"Start"}
    assert os.environ["CYTOVAE_QUIZ_DB"] in words(test)
    assert test.selectbox(key="model").options == ["linear-a", "linear-b"]


def test_a_rater_without_a_name_is_asked_for_one(quiz: Any) -> None:
    test = quiz()
    next(b for b in test.button if b.label == "Start").click()
    test.run()
    assert [e.value for e in test.error] == ["Fill in a name or an alias: it tells your answers from those of others."]
    assert "deck" not in test.query_params
    assert store().unfinished() == 0


def test_a_whole_quiz_lands_in_the_database_and_on_the_result(quiz: Any) -> None:
    test = quiz()
    token = begin(test, "Ada Lovelace")
    said = [True, False, True, True, False, False, True, False, True, True]
    for k, real in enumerate(said):
        assert store().state(token).n_answered == k
        assert not test.metric  # no figures before the end
        press(test, "Real" if real else "Synthetic")
    calls, _ = store().result(token)
    assert calls["called_real"].tolist() == said
    assert calls["rater"].unique().tolist() == ["Ada Lovelace"]
    assert calls["seconds"].tolist() == [1.5] * 10
    got = score.score(calls)
    assert test.title[0].value == f"You took {got.fooled.k} of 5 synthetic cells for real"
    assert [m.value for m in test.metric] == [
        quizzes.percent(got.fooled),
        quizzes.percent(got.accuracy),
        f"{got.d_prime.value:.2f}",
        f"{round(got.criterion.value, 2) + 0.0:+.2f}",
    ]
    assert quizzes.interval(got.fooled) in words(test)
    assert quizzes.estimate(got.d_prime) in words(test)
    assert score.verdict(got.d_prime).capitalize() in words(test)


def test_pause_gives_a_link_and_the_link_goes_on_in_another_session(quiz: Any) -> None:
    test = quiz()
    token = begin(test)
    finish(test, [True, False, True])
    press(test, "Pause")
    assert "Paused at card 4 of 10" in words(test)
    assert test.code[0].value.endswith(f"?deck={token}")
    press(test, "Go on")
    assert deck_of(test) == token
    elsewhere = quiz(deck=token)
    finish(elsewhere, [False] * 7)
    assert store().state(token).finished
    assert elsewhere.title[0].value.startswith("You took")
    # the first session is still at card 4: its answer comes too late, is refused, and the result shows
    press(test, "Real")
    assert store().result(token)[0]["called_real"].tolist() == [True, False, True] + [False] * 7


def test_the_same_link_in_two_sessions_never_answers_a_card_twice(quiz: Any) -> None:
    first = quiz()
    token = begin(first)
    second = quiz(deck=token)
    press(first, "Real")
    press(second, "Synthetic")  # still shows card 1
    assert "card 1 of this deck is answered already" in words(second)
    assert store().state(token).n_answered == 1
    press(second, "Synthetic")
    assert store().state(token).n_answered == 2


def test_an_unknown_link_is_refused_and_leads_back_to_the_start(quiz: Any) -> None:
    test = quiz(deck="nonsense")
    assert "This link does not lead to a deck" in test.error[0].value
    press(test, "Start a new deck")
    assert "deck" not in test.query_params
    assert test.title[0].value == "Real or synthetic?"


def test_a_deck_too_large_for_the_screen_is_refused_in_one_sentence(quiz: Any) -> None:
    test = quiz()
    test.text_input(key="rater").set_value("Ada")
    test.button_group(key="n_each").set_value(100)
    next(b for b in test.button if b.label == "Start").click()
    test.run()
    press(test, "Yes, keep it")
    assert "ask for a smaller deck" in test.error[0].value
    order = [node.label if node.type == "button" else node.type for node in test.main]
    assert order.index("error") == order.index("Start") - 1  # beside the button: below the form it is out of view
    assert not test.exception
    assert {b.label for b in test.button} >= {"Start"}


def test_a_database_that_cannot_be_opened_is_one_sentence(
    quiz: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.sqlite").write_text("not a database " * 100)
    monkeypatch.setenv("CYTOVAE_QUIZ_DB", f"sqlite:///{tmp_path / 'broken.sqlite'}")
    test = quiz()
    assert not test.exception
    assert "cannot be opened" in test.error[0].value


def test_all_raters_are_pooled_once_they_have_finished(quiz: Any) -> None:
    assert "Nobody has finished a deck yet" in words(quiz())
    for rater, real in (("Ada", True), ("Bob", False)):
        test = quiz()
        begin(test, rater)
        finish(test, [real] * 10)
    begin(quiz(), "Cleo")
    test = quiz()
    assert [m.value for m in test.metric] == ["50 %", "50 %", "0.00", "+0.00"]
    assert "raters like these 2" in words(test)
    assert "2 finished decks; 1 unfinished in this database are left out" in words(test)
    assert "Mean over raters 50.0 % ± 70.7 (s.d.)" in words(test)
    by_rater = next(t.value for t in test.dataframe if "Rater" in t.value)
    assert by_rater["Rater"].tolist() == ["Ada", "Bob"]
    assert by_rater["Called real (%)"].tolist() == [100, 0]
    assert "Cleo" not in by_rater.to_csv()


def test_results_stand_beside_the_papers_figures(quiz: Any) -> None:
    table = quizzes.comparison([("You", score.wilson(20, 50))], DeckProtocol.AS_DECODED)
    assert table["share"].tolist() == pytest.approx([40.0, 40.7, 30.0])
    assert table["n"].tolist() == ["n = 50", "n = 150", "n not given"]
    assert len(quizzes.comparison_figure(table).data[0].x) == 3


def test_matched_cards_never_stand_beside_the_papers_figures(quiz: Any) -> None:
    table = quizzes.comparison([("You", score.wilson(20, 50))], DeckProtocol.MATCHED)
    assert table["name"].tolist() == ["You"]
    assert len(quizzes.comparison_figure(table).data[0].x) == 1
    test = quiz()
    begin(test)
    finish(test, [True] * 10)
    assert "it is not drawn here" in words(test)


def test_results_of_the_two_protocols_are_never_pooled(quiz: Any) -> None:
    for rater, protocol in (("Ada", DeckProtocol.MATCHED), ("Bob", DeckProtocol.AS_DECODED)):
        test = quiz()
        test.radio(key="protocol").set_value(protocol)
        begin(test, rater)
        finish(test, [True] * 10)
        assert f"{protocol}, outer 6 px hidden" in words(test)
    test = quiz()
    assert len(test.selectbox(key="pooled").options) == 2
    for option, rater in zip(test.selectbox(key="pooled").options, ("Bob", "Ada"), strict=True):
        test.selectbox(key="pooled").select(option).run()
        by_rater = next(t.value for t in test.dataframe if "Rater" in t.value and "Real" in t.value)
        assert by_rater["Rater"].tolist() == [rater]


def test_a_name_is_kept_only_with_permission_asked_for_once(quiz: Any) -> None:
    test = quiz()
    test.text_input(key="rater").set_value("Ada")
    test.button_group(key="n_each").set_value(5)
    press(test, "Start")
    assert "everyone who opens this app sees it" in words(test)
    assert "deck" not in test.query_params
    press(test, "No, give me an alias")
    alias = store().state(deck_of(test)).rater
    assert re.fullmatch(r"Rater [0-9A-F]{6}", alias)
    assert not store().may_keep("Ada")
    begin(quiz(), "Ada")
    assert store().may_keep("Ada")
    test = quiz()
    test.text_input(key="rater").set_value("Ada")
    test.button_group(key="n_each").set_value(5)
    press(test, "Start")
    assert store().state(deck_of(test)).rater == "Ada"  # not asked again


def test_the_page_says_until_when_a_quiz_is_open(quiz: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test = quiz()
    assert "open for 24 hours" in words(test)
    token = begin(test)
    press(test, "Pause")
    assert f"open until {answers.day(store().state(token).open_until)}" in words(test)
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=7.1)
    monkeypatch.setattr(answers, "_now", lambda: later)
    test = quiz(deck=token)
    assert "This quiz was open until" in test.error[0].value
    press(test, "Start a new deck")
    assert "Paused" not in words(test)


def test_who_opened_a_quiz_closes_it_from_all_raters_and_the_veil_ends(quiz: Any, tiny: Any) -> None:
    screen = Screen.open(tiny.screen)
    elsewhere = begin(quiz(), "Bob")
    test = quiz()
    token = begin(test, "Ada")
    press(test, "Pause")
    loaders._in_play.clear()
    before = loaders.in_play(screen)
    listed = next(t.value for t in test.dataframe if "Open until" in t.value)
    assert listed["Rater"].tolist() == ["Bob", "Ada"]
    assert elsewhere not in listed.to_csv()
    closing = [b for b in test.button if b.label.startswith("Close the quiz begun here")]
    assert len(closing) == 1  # Bob's is not this session's to close
    closing[0].click()
    test.run()
    assert store().state(token).closed
    assert not store().state(elsewhere).closed
    assert loaders.in_play(screen) < before
    test.text_input(key="close-link").set_value("http://somewhere/quiz?deck=guess").run()
    press(test, "Close it")
    assert "does not lead to a deck" in test.error[0].value
    test.text_input(key="close-link").set_value(f"http://somewhere/quiz?deck={elsewhere}").run()
    press(test, "Close it")
    assert store().state(elsewhere).closed
    assert loaders.in_play(screen) == frozenset()


def test_names_are_shown_as_text_and_are_no_formulas(quiz: Any) -> None:
    name = "=1+1 *Ada* ![x](y)"
    test = quiz()
    begin(test, name)
    finish(test, [True] * 10)
    assert plain(name) in words(test)
    assert "*Ada*" not in plain(name)
    table = pd.read_csv(io.StringIO(quizzes.csv(store().calls())))
    assert set(table["rater"]) == {f"'{name}"}


def test_a_session_keeps_nothing_that_tells_the_truth(quiz: Any) -> None:
    test = quiz()
    known = {key: repr(value) for key, value in test.session_state._state.filtered_state.items()}
    token = begin(test)
    press(test, "Real")
    state = test.session_state._state.filtered_state
    # What stood there before the deck was drawn (the path last looked at names two cells) says nothing of the deck.
    kept = {key: value for key, value in state.items() if repr(value) != known.get(key)}
    assert kept["my_deck"] == token
    assert kept["card"]["call"] == {"position": 0, "real": True, "seconds": 1.5}
    finish(test, [True] * 9)
    calls, _ = store().result(token)
    said = repr(kept)
    assert not [name for name in calls["cell_id"] if name in said]
    assert not [value for value in kept.values() if isinstance(value, np.ndarray | bytes | pd.DataFrame | list)]


def test_a_rater_meets_new_cells_in_the_next_deck(quiz: Any) -> None:
    for _ in range(2):
        test = quiz()
        begin(test, "Ada")
        finish(test, [True] * 10)
    assert store().calls()["cell_id"].is_unique


def test_held_out_cells_are_those_of_wells_the_model_did_not_see(quiz: Any) -> None:
    quiz()
    screen = loaders.screens()["Tiny screen"]
    cells = screen.cells()
    want = sampling.well_names(cells).isin(sampling.held_out_wells(cells, 0.4))
    assert 0 < want.sum() < len(want)
    got = loaders.held_out(screen, "linear-b")
    assert got is not None
    assert got.tolist() == want.tolist()
    renamed = Screen(screen.path, dataclasses.replace(screen.record, name="Another name"))
    again = loaders.held_out(renamed, "linear-b")
    assert again is not None
    assert again.tolist() == want.tolist()  # what a screen is called does not matter


# the message of a card


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (68, 68, 3)).astype(np.uint8)


def test_messages_of_all_cards_have_one_size() -> None:
    flat, noisy = np.zeros((68, 68, 3), np.uint8), picture()
    sizes = {len(cards.pack(p, k, 200, CHANNELS)) for p in (flat, noisy) for k in (0, 9, 10, 99, 100, 199)}
    assert sizes == {20 + len("DNA\nTubulin\nActin") + 68 * 68 * 3}


def test_message_gives_the_picture_back() -> None:
    want = picture(3)
    message = cards.pack(want, 7, 20, CHANNELS)
    h, w, c, position, n_cards, names, first, second = struct.unpack_from("<6H2I", message)
    assert (h, w, c, position, n_cards) == (68, 68, 3, 7, 20)
    assert message[20 : 20 + names].decode().split("\n") == list(CHANNELS)
    masked = np.frombuffer(message[20 + names :], np.uint8)
    assert ((masked ^ cards.stream((first, second), masked.size)).reshape(h, w, c) == want).all()


def test_stream_is_the_published_finaliser_of_a_counter() -> None:
    def mix(h: int) -> int:  # MurmurHash3_x86_32, fmix32, in plain integers
        h ^= h >> 16
        h = h * 0x85EBCA6B % 2**32
        h ^= h >> 13
        h = h * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    want = b"".join(mix(mix(i ^ 123) ^ 4_000_000_000).to_bytes(4, "little") for i in range(50))
    assert cards.stream((123, 4_000_000_000), 198).tobytes() == want[:198]


def test_stream_has_no_pattern() -> None:
    got = cards.stream((1, 2), 200_000)
    assert stats.chisquare(np.bincount(got, minlength=256)).pvalue > 1e-4
    assert stats.chisquare(np.bincount(got[1:] ^ got[:-1], minlength=256)).pvalue > 1e-4


def test_message_of_the_smoothest_picture_does_not_compress() -> None:
    for level in (0, 255):
        message = cards.pack(np.full((68, 68, 3), level, np.uint8), 0, 10, CHANNELS)
        assert len(zlib.compress(message, 9)) >= 0.99 * len(message)


def test_the_same_picture_never_travels_in_the_same_bytes() -> None:
    one, other = (cards.pack(picture(), 0, 10, CHANNELS)[-13872:] for _ in range(2))
    assert np.mean(np.frombuffer(one, np.uint8) == np.frombuffer(other, np.uint8)) < 0.02


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ({"position": 3, "real": True, "seconds": 2.5}, cards.Call(3, True, 2.5)),
        ({"position": 0, "real": False, "seconds": None}, cards.Call(0, False, None)),
        ({"position": 0, "real": False, "seconds": -1}, cards.Call(0, False, None)),
        ({"position": "0", "real": True}, None),
        ({"position": True, "real": True}, None),
        ({"position": 1, "real": "yes"}, None),
        (None, None),
        ([1], None),
    ],
)
def test_only_a_well_formed_answer_counts(value: Any, want: cards.Call | None) -> None:
    assert cards.read(value) == want


def test_component_names_no_truth() -> None:
    """Nothing in what every browser gets of the component depends on a card: it has no placeholders."""
    here = Path(cards.__file__).parent
    for name in ("card.html", "card.css", "card.js"):
        text = (here / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|\{\{|%s", text)


def ids_in(message: bytes) -> set[str]:
    """The cell ids in what a browser gets of a gallery."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    return {item["id"] for row in header["rows"] for item in row["items"]} - {""}


def test_cells_of_an_unfinished_quiz_are_not_drawn(quiz: Callable[..., Any], tiny: Any) -> None:
    begin(quiz(), n_each=10)  # some of every treatment
    loaders._in_play.clear()  # ten seconds later
    screen = Screen.open(tiny.screen)
    assert loaders.in_play(screen) == store().cells_in_play(screen.name) != frozenset()
    cells = screen.cells()
    hidden = cells[schema.CELL_ID].isin(loaders.in_play(screen))
    drawn = compare.draw(screen, loaders.models(screen)[0], "treatment", "DMSO@0", 1000, 0)
    left = np.flatnonzero((cells[schema.TREATMENT] == "DMSO@0") & ~hidden)
    assert len(left) and sorted(drawn) == left.tolist()


def test_cells_of_an_unfinished_quiz_are_in_no_gallery(app: App, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen.open(tiny.screen)
    playing = frozenset(screen.cells()[schema.CELL_ID][::3])
    monkeypatch.setattr(loaders, "in_play", lambda _: playing)
    galleries: list[bytes] = []
    monkeypatch.setattr(
        components, "_mount", lambda *, data, **_: (galleries.append(data), types.SimpleNamespace(picked=None))[1]
    )
    shown = app([tiny.screen], tiny.models)
    assert not shown.exception and not shown.error
    assert any("quizzes that are not finished" in c.value for c in shown.caption)
    seen = set().union(*map(ids_in, galleries))
    assert seen
    assert not seen & playing


def test_what_pages_show_unasked_is_black_where_it_lies_in_an_unfinished_quiz(
    app: App, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not app([tiny.screen], tiny.models).error
    screen = Screen.open(tiny.screen)
    playing = frozenset(screen.cells()[schema.CELL_ID][::3])
    monkeypatch.setattr(loaders, "in_play", lambda _: playing)
    hidden = screen.cells()[schema.CELL_ID].isin(playing).to_numpy()
    images = pixels.of_cells(screen, np.arange(len(hidden))).images
    assert np.array_equal(images.max(axis=(1, 2, 3)) == 0, hidden)
    model = loaders.models(screen)[0]
    rows, (sentence,) = compare.named(screen, [min(playing)])
    assert not len(rows) and sentence.startswith(f"In a quiz that is not finished: {min(playing)}")
    blackened = 0
    for treatment in set(screen.cells()[schema.TREATMENT]) - {"DMSO@0"}:
        view = explorer.view(screen, model, Request(treatment))
        inside = [i in playing for i in view.study.evidence.nearest_ids[:, 0]]
        header, images = explorer.player_data(screen, view)
        black = (images.images.max(axis=(1, 2, 3)) == 0).tolist()
        steps = view.study.path.steps
        assert black[steps + 2 :] == inside
        for place, end, said in ((0, view.study.start, "control"), (steps + 1, view.study.end, "target")):
            assert black[place] == (end.cell_id in playing) == ("in an unfinished quiz" in header[said]["title"])
            blackened += black[place]
        blackened += sum(inside)
    assert blackened


@pytest.mark.parametrize("url", ["sqlite:///{}/no.sqlite?timeout=5", "sqlite+pysqlite:///{}/no.sqlite"])
def test_however_a_file_is_named_looking_makes_no_quiz_database(
    url: str, app: App, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYTOVAE_QUIZ_DB", url.format(tmp_path))
    assert loaders.in_play(Screen.open(tiny.screen)) == frozenset()
    assert not list(tmp_path.glob("no.sqlite*"))


def test_pages_work_and_say_so_while_the_quiz_database_cannot_be_opened(
    app: App, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.sqlite").write_text("this is no database " * 100)
    monkeypatch.setenv("CYTOVAE_QUIZ_DB", f"sqlite:///{tmp_path / 'broken.sqlite'}")
    shown = app([tiny.screen], tiny.models)
    assert not shown.exception and not shown.error
    assert any("cannot be left out here" in w.value for w in shown.warning)


def test_looking_at_galleries_makes_no_quiz_database(app: App, tiny: Any, tmp_path: Path) -> None:
    assert not app([tiny.screen], tiny.models).error
    assert loaders.in_play(Screen.open(tiny.screen)) == frozenset()
    assert not (tmp_path / "quiz.sqlite").exists()
