"""Quiz: is this cell real or synthetic? Blinded, resumable, saved card by card."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.common import context, loaders, login
from app.common.figures import explained
from app.common.words import begun, plain
from app.quiz import quizzes
from app.quiz.card import Call, card
from cytovae import schema
from cytovae.errors import QuizError
from cytovae.quiz import answers, score
from cytovae.quiz.answers import DeckState, Store
from cytovae.quiz.deck import DeckProtocol

DECK = "deck"
MINE = "my_deck"
OPENED = "decks_opened"  # in the session: tokens of the decks that were opened in it
ASKED = "start-asked"  # in the session: the name whose keeping is being asked about
GIVEN = "start-given"  # in the session: the name to keep, until the deck is dealt


def go(token: str | None) -> None:
    """Show a deck, or the start."""
    if token is None:
        st.query_params.pop(DECK, None)
    else:
        st.query_params[DECK] = token
        remember(token)


def remember(token: str) -> None:
    """Hold the token of a deck opened in this session: the right to close it from All raters."""
    st.session_state[MINE] = token
    st.session_state[OPENED] = tuple(dict.fromkeys((*st.session_state.get(OPENED, ()), token)))


def link(token: str) -> str:
    """Where a deck goes on."""
    return f"{(st.context.url or '').split('?')[0]}?{DECK}={token}"


def paused(store: Store) -> None:
    """The way back to a deck this session has begun."""
    mine = st.session_state.get(MINE)
    if not mine:
        return
    state = store.state(mine)
    if state.finished or state.ended:
        return
    with st.container(border=True):
        st.markdown(
            f"**Paused at card {state.n_answered + 1} of {state.n_cards}.** Every answer is saved. The quiz is open "
            f"until {answers.day(state.open_until)}; then it ends, counts for nothing, and its cells show again "
            "elsewhere. This link goes on from here, on any machine; whoever has it can answer for you:"
        )
        st.code(link(mine), language=None, wrap_lines=True)
        st.button("Go on", type="primary", on_click=go, args=(mine,))


def start(store: Store) -> None:
    """The form that deals a deck."""
    paused(store)
    words, form = st.columns([1, 1.15], gap="large")
    with form:
        screen = context.choose_screen()
        model = context.choose_model(screen, embedded=False)
        with st.form("start"):
            name = st.text_input("Your name or an alias", max_chars=100, key="rater")
            expertise = st.selectbox("Your expertise", answers.EXPERTISE, key="expertise")
            protocol = st.radio(
                "Synthetic cells are drawn",
                list(DeckProtocol),
                captions=[each.words for each in DeckProtocol],
                key="protocol",
            )
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
            wrong = st.container()
            begin = st.form_submit_button("Start", type="primary", width="stretch")
    with words:
        st.markdown(
            "Half of the cards show **real** cells, the other half cells that the model **reconstructed** from its "
            "embedding of another cell. Which is which, and how the cells were treated, you learn at the end.\n\n"
            "- Press `R` for real, `S` for synthetic. There is no way back.\n"
            "- Number keys switch channels, `L` the look, `P` shows single pixels.\n"
            "- Take your time. Pause whenever you like: each answer is saved before the next card shows.\n"
            f"- An unfinished quiz is open for {answers.OPEN_HOURS} hours. Until it ends, its cells are hidden on all "
            "other pages."
        )
        st.caption(
            f"All cells are seen through a round window that hides the outer {quizzes.window_px(screen)} px: at the "
            "border of a patch a decoder leaves traces that would give its cells away. In the paper three experts saw "
            "whole decoded patches and took 40.7 % of the VAE+'s for real; results of matched cards answer another "
            "question and are never drawn beside that figure."
        )
        st.caption(f"Answers are kept in `{store.where}` and listed under *All raters*.")
    if begin and not name.strip():
        wrong.error("Fill in a name or an alias: it tells your answers from those of others.")
        return
    if begin:
        st.session_state[GIVEN if store.may_keep(name) else ASKED] = name
    if asked := st.session_state.get(ASKED):
        permitted(store, asked)
    if rater := st.session_state.pop(GIVEN, None):
        try:
            with st.spinner("Shuffling"):
                go(quizzes.deal(screen, model, n_each, DeckProtocol(str(protocol)), rater, expertise))
        except QuizError as refused:
            wrong.error(str(refused))  # beside the button, in view
            return
        st.rerun()


def unasked() -> None:
    """The question was closed without an answer."""
    st.session_state.pop(ASKED, None)


@st.dialog("May this name be kept?", on_dismiss=unasked)
def permitted(store: Store, name: str) -> None:
    """Ask, once for every name, whether it may be kept; the answer closes the question and starts the deck."""
    st.text(name)
    st.caption(
        "It is stored with your answers, and everyone who opens this app sees it under *All raters* and in the "
        "tables to download. You are asked once."
    )
    yes, no = st.columns(2)
    agreed = yes.button("Yes, keep it", type="primary", width="stretch")
    if not agreed and not no.button("No, give me an alias", width="stretch"):
        return
    if agreed:
        store.keep_name(name)
    st.session_state[GIVEN] = name if agreed else answers.alias()
    unasked()
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
    """The four figures of a score, each with its interval."""
    sensitivity = f"{quizzes.estimate(got.d_prime)}; 0 is guessing. {score.verdict(got.d_prime).capitalize()}."
    bias = f"{quizzes.estimate(got.criterion)}; {quizzes.leaning(got.criterion)}."
    words = (
        ("Synthetic called real", quizzes.percent(got.fooled), quizzes.interval(got.fooled)),
        ("Right answers", quizzes.percent(got.accuracy), quizzes.interval(got.accuracy)),
        ("Sensitivity d′", f"{got.d_prime.value:.2f}", sensitivity),
        ("Criterion", f"{round(got.criterion.value, 2) + 0.0:+.2f}", bias),
    )
    for column, (label, value, small) in zip(st.columns(4), words, strict=True):
        with column.container(border=True, gap="small"):
            st.metric(label, value)
            st.caption(small)


def compare(rows: list[tuple[str, score.Share]], protocol: str, hidden_px: int) -> None:
    """Shares; beside the published ones where cards were drawn as theirs were."""
    figure = quizzes.comparison_figure(quizzes.comparison(rows, protocol))
    means = "Share of synthetic cells that were taken for real ones, each with its 95 % interval; chance is 50 %."
    explained(figure, "comparison", means, title="Synthetic cells called real", config={"displayModeBar": False})
    if protocol != DeckProtocol.AS_DECODED:
        st.caption(
            "Matched cards: the paper's 40.7 % is the answer to another question (decoded cells as they are), so it is "
            "not drawn here."
        )
    elif hidden_px:
        st.caption(
            f"The paper's raters saw whole patches; here the outer {hidden_px} px of both kinds are hidden. The "
            "paper's interval takes its 150 cards as independent: how they fell among its three raters is not given."
        )


def groups(calls: pd.DataFrame, column: str, label: str, *, sensitivity: bool = False) -> None:
    """A table of scores by group."""
    bar = st.column_config.ProgressColumn(format="%.0f", min_value=0, max_value=100)
    number = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        quizzes.by_group(calls, column, label, sensitivity=sensitivity),
        hide_index=True,
        column_config={"Called real (%)": bar, "Accuracy (%)": bar, "d′": number},
    )


def same_drawn(calls: pd.DataFrame, protocol: str, hidden_px: int) -> pd.DataFrame:
    """The calls whose cards were drawn one way."""
    return calls[(calls["protocol"] == str(protocol)) & (calls["hidden_px"] == hidden_px)]


def result(store: Store, token: str, state: DeckState) -> None:
    """What a finished deck says."""
    calls, pictures = store.result(token)
    pooled = same_drawn(store.calls(screen=state.screen, model=state.model), state.protocol, state.hidden_px)
    got = score.score(calls, score.CLUSTERS)
    st.title(f"You took {got.fooled.k} of {got.fooled.n} synthetic cells for real")
    apart = "wells the model was not trained on" if state.held_out else "the whole screen, training wells included"
    st.caption(
        f"{plain(state.rater)} · {state.expertise} · model {plain(state.model)} · {plain(state.screen)} · "
        f"{quizzes.drawn(state.protocol, state.hidden_px)} · "
        f"cells of {calls[schema.TREATMENT].nunique()} treatments, from {apart}"
    )
    figures(got)
    rows = [("You", got.fooled)]
    if login.sees_all_raters() and (n := pooled[score.RATER].nunique()) > 1:
        rows.append((f"All {n} raters of {state.model}", score.score(pooled, score.CLUSTERS).fooled))
    compare(rows, state.protocol, state.hidden_px)
    with st.container(horizontal=True):
        st.button("Another deck", type="primary", on_click=go, args=(None,))
        st.download_button("Your calls (CSV)", quizzes.csv(calls), "quiz_calls.csv", "text/csv")
    st.subheader("By mechanism")
    groups(calls, schema.MOA, "Mechanism")
    st.subheader("The cards again")
    for title, treatments, sheet in quizzes.sheets(calls, pictures):
        st.markdown(f"**{plain(title)}**")
        st.image(sheet, output_format="PNG", width=min(sheet.shape[1] * 2, 1100), alt=f"{title}: {treatments}")
        st.caption(plain(treatments))


def everybody(store: Store) -> None:
    """All raters, pooled, and the decks still open."""
    if not login.sees_all_raters():
        st.info("The answers of all raters are shown to those alone whom this app's list names for it.")
        closing(store)
        return
    calls = store.calls()
    if calls.empty:
        st.info("Nobody has finished a deck yet. Take the quiz, then come back.", icon=":material/info:")
    else:
        finished(store, calls)
    still_open(store)


def finished(store: Store, calls: pd.DataFrame) -> None:
    """The figures of the finished decks of one screen and model, drawn one way."""
    kinds = ["screen", "model", "protocol", "hidden_px"]
    found = sorted(calls[kinds].drop_duplicates().itertuples(index=False, name=None))
    named = {f"{kind[0]} · {kind[1]} · {quizzes.drawn(kind[2], kind[3])}": kind for kind in found}
    chosen = named[st.selectbox("Screen, model and drawing", list(named), key="pooled")]
    calls = calls[(calls["screen"] == chosen[0]) & (calls["model"] == chosen[1])]
    calls = same_drawn(calls, chosen[2], chosen[3])
    n_decks, n_raters = calls["deck"].nunique(), calls[score.RATER].nunique()
    got = score.score(calls, score.CLUSTERS)
    figures(got)
    compare([(f"All {n_raters} raters" if n_raters > 1 else "One rater", got.fooled)], chosen[2], chosen[3])
    spread = score.score_by(calls, score.RATER)["fooled_share"] * 100
    reach = (
        f"Intervals are about raters like these {n_raters}: answers of one rater, and answers to one cell, count as "
        f"alike. Mean over raters {spread.mean():.1f} % ± {spread.std():.1f} (s.d.)."
        if n_raters > 1
        else "Intervals are about this rater alone."
    )
    st.caption(
        f"{n_decks} finished deck{'s' * (n_decks > 1)}; {store.unfinished()} unfinished in this database are left out. "
        + reach
    )
    st.subheader("By rater")
    groups(calls, score.RATER, "Rater", sensitivity=True)
    st.subheader("By mechanism")
    groups(calls, schema.MOA, "Mechanism")
    st.download_button("All calls (CSV)", quizzes.csv(calls), "quiz_all_calls.csv", "text/csv")


def still_open(store: Store) -> None:
    """The decks that take answers and hide their cells; who opened one can close it."""
    waiting = store.open_decks()
    if not waiting:
        return
    st.subheader("Not finished")
    st.caption(
        f"These quizzes hide their cells on all other pages until they are finished, closed by who opened them, or end "
        f"{answers.OPEN_HOURS} hours after they were begun."
    )
    st.dataframe(quizzes.open_table(waiting), hide_index=True)
    closing(store)


def closing(store: Store) -> None:
    """The way to close a quiz for whoever opened it."""
    for token in st.session_state.get(OPENED, ()):
        state = store.state(token)
        if not state.finished and not state.ended:
            label = f"Close the quiz begun here ({state.n_answered} of {state.n_cards} answered)"
            st.button(label, key=f"close-{token}", on_click=close, args=(store, token))
    given = st.text_input("Close a quiz you opened elsewhere: paste its link", key="close-link")
    if given.strip():
        st.button("Close it", key="close-given", on_click=close, args=(store, given.strip().partition(f"{DECK}=")[2]))
    if refused := st.session_state.pop("not-closed", None):
        st.error(begun(refused), icon=":material/error:")


def close(store: Store, token: str) -> None:
    """Give a deck up."""
    try:
        store.end(token)
    except QuizError as refused:
        st.session_state["not-closed"] = str(refused)
        return
    loaders.forget_play()
    if st.session_state.get(MINE) == token:
        del st.session_state[MINE]


def show(store: Store, token: str) -> None:
    """The deck of a link: its next card, or its result."""
    state = store.state(token)
    remember(token)
    if state.finished:
        result(store, token, state)
    else:
        ask(store, token, state)


def page() -> None:
    """A deck where the link names one, else the start and all raters."""
    store = loaders.quiz_store()
    if token := st.query_params.get(DECK):
        try:
            show(store, token)
        except QuizError as refused:
            st.error(begun(str(refused)), icon=":material/error:")
            with st.container(horizontal=True):
                st.button("Try again")
                st.button("Start a new deck", type="primary", on_click=go, args=(None,))
        return
    st.title("Real or synthetic?")
    quiz, raters = st.tabs(["Take the quiz", "All raters"])
    with quiz:
        start(store)
    with raters:
        everybody(store)


with context.page_errors():
    page()
