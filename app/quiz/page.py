"""Quiz: is this cell real or synthetic? Blinded, resumable, saved card by card."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.common import context, loaders
from app.quiz import quizzes
from app.quiz.card import Call, card
from cytovae import schema
from cytovae.errors import QuizError
from cytovae.quiz import answers, score
from cytovae.quiz.answers import DeckState, Store

DECK = "deck"
MINE = "my_deck"


def go(token: str | None) -> None:
    """Show a deck, or the start."""
    if token is None:
        st.query_params.pop(DECK, None)
    else:
        st.query_params[DECK] = token
        st.session_state[MINE] = token


def link(token: str) -> str:
    """Where a deck goes on."""
    return f"{(st.context.url or '').split('?')[0]}?{DECK}={token}"


def start(store: Store) -> None:
    """The form that deals a deck."""
    mine = st.session_state.get(MINE)
    state = store.state(mine) if mine else None
    if mine and state and not state.finished:
        with st.container(border=True):
            st.markdown(
                f"**Paused at card {state.n_answered + 1} of {state.n_cards}.** Every answer is saved. "
                "This link goes on from here, on any machine; whoever has it can answer for you:"
            )
            st.code(link(mine), language=None, wrap_lines=True)
            st.button("Go on", type="primary", on_click=go, args=(mine,))
    words, form = st.columns([1, 1.15], gap="large")
    with form:
        screen = context.choose_screen()
        model = context.choose_model(screen, embedded=False)
        with st.form("start"):
            name = st.text_input("Your name or an alias", max_chars=100, key="rater")
            expertise = st.selectbox("Your expertise", answers.EXPERTISE, key="expertise")
            n_each = st.segmented_control(
                "Cards, real + synthetic",
                quizzes.SIZES,
                default=quizzes.PAPER_SIZE,
                format_func=lambda n: f"{n} + {n}",
                key="n_each",
                required=True,
                width="stretch",
                help="50 + 50 in the paper; fewer cards give a wider interval",
            )
            begin = st.form_submit_button("Start", type="primary", width="stretch")
    with words:
        st.markdown(
            "Half of the cards show **real** cells, the other half cells that the model **reconstructed** from its "
            "embedding of another cell, drawn with that cell's grey values: brightness and contrast tell nothing. "
            "Which is which, and how the cells were treated, you learn at the end.\n\n"
            "- Press `R` for real, `S` for synthetic. There is no way back.\n"
            "- Number keys switch channels, `L` the look, `P` shows single pixels.\n"
            "- Take your time. Pause whenever you like: each answer is saved before the next card shows."
        )
        st.caption(
            "In the paper three experts took 40.7 % of the VAE+'s cells for real; an earlier GAN reached 30 %. "
            f"Names and answers are kept in `{store.where}` and listed under *All raters*."
        )
    if begin:
        if not name.strip():
            form.error("Fill in a name or an alias: it tells your answers from those of others.")
            return
        with st.spinner("Shuffling"):
            go(quizzes.deal(screen, model, n_each, name, expertise))
        st.rerun()


def ask(store: Store, token: str, state: DeckState) -> None:
    """One card, and what an answer does."""

    def keep(call: Call) -> None:
        try:
            store.answer(token, call.position, call.real, call.seconds)
        except QuizError as refused:
            st.session_state["refused"] = str(refused)

    if refused := st.session_state.pop("refused", None):
        st.warning(refused, icon=":material/info:")
    shown = store.card(token)
    card(shown.picture, shown.position, state.n_cards, state.channels, keep)
    with st.container(horizontal=True, horizontal_alignment="center"):
        st.button("Pause", icon=":material/pause:", type="tertiary", on_click=go, args=(None,))


def figures(got: score.Score) -> None:
    """The three figures of a score."""
    words = (
        ("Synthetic called real", quizzes.percent(got.fooled), quizzes.interval(got.fooled)),
        ("Right answers", quizzes.percent(got.accuracy), quizzes.interval(got.accuracy)),
        ("Sensitivity d′", f"{got.d_prime:.2f}", f"{quizzes.verdict(got.d_prime)}; 0 is guessing"),
    )
    for column, (label, value, small) in zip(st.columns(3), words, strict=True):
        with column.container(border=True, gap="small"):
            st.metric(label, value)
            st.caption(small)


def compare(rows: list[tuple[str, score.Share]]) -> None:
    """Shares beside the published ones."""
    figure = quizzes.comparison_figure(quizzes.comparison(rows))
    st.plotly_chart(figure, config={"displayModeBar": False}, key="comparison")


def groups(calls: pd.DataFrame, column: str, label: str, *, sensitivity: bool = False) -> None:
    """A table of scores by group."""
    bar = st.column_config.ProgressColumn(format="%.0f", min_value=0, max_value=100)
    number = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        quizzes.by_group(calls, column, label, sensitivity=sensitivity),
        hide_index=True,
        column_config={"Called real (%)": bar, "Accuracy (%)": bar, "d′": number},
    )


def result(store: Store, token: str, state: DeckState) -> None:
    """What a finished deck says."""
    calls, pictures = store.result(token)
    pooled = store.calls(screen=state.screen, model=state.model)
    got = score.score(calls)
    st.title(f"You took {got.fooled.k} of {got.fooled.n} synthetic cells for real")
    apart = "wells the model was not trained on" if state.held_out else "the whole screen, training wells included"
    st.caption(
        f"{state.rater} · {state.expertise} · model {state.model} · {state.screen} · "
        f"cells of {calls[schema.TREATMENT].nunique()} treatments, from {apart}"
    )
    figures(got)
    rows = [("You", got.fooled)]
    if (n := pooled[score.RATER].nunique()) > 1:
        rows.append((f"All {n} raters of {state.model}", score.score(pooled).fooled))
    compare(rows)
    with st.container(horizontal=True):
        st.button("Another deck", type="primary", on_click=go, args=(None,))
        st.download_button("Your calls (CSV)", calls.to_csv(index=False), "quiz_calls.csv", "text/csv")
    st.subheader("By mechanism")
    groups(calls, schema.MOA, "Mechanism")
    st.subheader("The cards again")
    for title, treatments, sheet in quizzes.sheets(calls, pictures):
        st.markdown(f"**{title}**")
        st.image(sheet, output_format="PNG", width=min(sheet.shape[1] * 2, 1100))
        st.caption(treatments)


def everybody(store: Store) -> None:
    """All raters, pooled."""
    calls = store.calls()
    if calls.empty:
        st.info("Nobody has finished a deck yet. Take the quiz, then come back.", icon=":material/info:")
        return
    chosen = st.selectbox(
        "Screen and model",
        sorted(set(zip(calls["screen"], calls["model"], strict=True))),
        format_func=" · ".join,
        key="pooled",
    )
    calls = calls[(calls["screen"] == chosen[0]) & (calls["model"] == chosen[1])]
    n_decks, n_raters, got = calls["deck"].nunique(), calls[score.RATER].nunique(), score.score(calls)
    figures(got)
    compare([(f"All {n_raters} raters" if n_raters > 1 else "One rater", got.fooled)])
    spread = score.score_by(calls, score.RATER)["fooled_share"] * 100
    st.caption(
        f"{n_decks} finished deck{'s' * (n_decks > 1)}; {store.unfinished()} unfinished in this database are left out. "
        "Intervals count every card as independent. "
        + (f"Mean over raters {spread.mean():.1f} % ± {spread.std():.1f} (s.d.)." if n_raters > 1 else "")
    )
    st.subheader("By rater")
    groups(calls, score.RATER, "Rater", sensitivity=True)
    st.subheader("By mechanism")
    groups(calls, schema.MOA, "Mechanism")
    st.download_button("All calls (CSV)", calls.to_csv(index=False), "quiz_all_calls.csv", "text/csv")


def page() -> None:
    """A deck where the link names one, else the start and all raters."""
    store = loaders.quiz_store()
    if token := st.query_params.get(DECK):
        try:
            state = store.state(token)
        except QuizError as unknown:
            st.error(str(unknown), icon=":material/error:")
            st.button("Start a new deck", type="primary", on_click=go, args=(None,))
            return
        st.session_state[MINE] = token
        if state.finished:
            result(store, token, state)
        else:
            ask(store, token, state)
        return
    st.title("Real or synthetic?")
    quiz, raters = st.tabs(["Take the quiz", "All raters"])
    with quiz:
        start(store)
    with raters:
        everybody(store)


with context.page_errors():
    page()
