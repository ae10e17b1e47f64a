"""Quiz: is this cell real or synthetic? Blinded, resumable, saved card by card."""

from __future__ import annotations

import streamlit as st

from app import context, loaders, quizzes
from app.components.card import Call, card
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
            n_each = st.selectbox("Cards", list(quizzes.SIZES), 3, format_func=quizzes.SIZES.get, key="n_each")
            begin = st.form_submit_button("Start", type="primary", width="stretch")
    with words:
        st.markdown(
            "Half of the cards show **real** cells, the other half cells that the model **reconstructed** from its "
            "embedding of another cell. Which is which, and how the cells were treated, you learn at the end.\n\n"
            "- Press :kbd[R] for real, :kbd[S] for synthetic. There is no way back.\n"
            "- :kbd[1] :kbd[2] :kbd[3] switch channels, :kbd[L] the look, :kbd[P] shows single pixels.\n"
            "- Take your time. Pause whenever you like: each answer is saved before the next card shows."
        )
        st.caption(
            "In the paper three experts took 40.7 % of the VAE+'s cells for real; an earlier GAN reached 30 %. "
            f"Names and answers are kept in `{store.where}` and listed under *All raters*."
        )
    if begin:
        if not name.strip():
            raise QuizError("Fill in a name or an alias, so that your answers can be told from those of others.")
        with st.spinner("Shuffling"):
            go(quizzes.deal(screen, model, int(n_each), name, expertise))
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
    share, accuracy, sensitivity = st.columns(3)
    share.metric("Synthetic called real", quizzes.percent(got.fooled), border=True)
    share.caption(f"{got.fooled.k} of {got.fooled.n}; {quizzes.interval(got.fooled)}")
    accuracy.metric("Right answers", quizzes.percent(got.accuracy), border=True)
    accuracy.caption(f"{got.accuracy.k} of {got.accuracy.n}; {quizzes.interval(got.accuracy)}; guessing gives 50 %")
    sensitivity.metric("d′", f"{got.d_prime:.2f}", border=True)
    sensitivity.caption(f"0 is guessing, 4 hardly ever wrong: {quizzes.verdict(got.d_prime)}")


def compare(rows: list[tuple[str, score.Share]]) -> None:
    """Shares beside the published ones."""
    st.plotly_chart(
        quizzes.comparison_figure(quizzes.comparison(rows)), config={"displayModeBar": False}, key="comparison"
    )


def groups(calls: object, column: str, label: str) -> None:
    """A table of scores by group."""
    bar = st.column_config.ProgressColumn(format="%.0f", min_value=0, max_value=100)
    number = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        quizzes.by_group(calls, column, label),  # type: ignore[arg-type]
        hide_index=True,
        column_config={"Called real (%)": bar, "Accuracy (%)": bar, "d′": number},
    )
