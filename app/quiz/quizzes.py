"""What the Quiz page shows: a deck dealt from a screen and a model, figures in words, tables and a plot of results."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.common import loaders
from cytovae import schema
from cytovae.quiz import answers
from cytovae.quiz import deck as decks
from cytovae.quiz import score as scores
from cytovae.screen import Screen, csv_text

SIZES = (5, 10, 25, 50, 100)
"""Cards of either kind that a deck may hold; the paper's has 50."""
PAPER_SIZE = 50


def window_px(screen: Screen) -> int:
    """Distance (px) of the round window, through which all cards of a screen are shown, from the edges."""
    return min(decks.DeckOptions.hidden_px, screen.record.patch_size_px // 4)


def deal(screen: Screen, model: str, n_each: int, protocol: decks.DeckProtocol, rater: str, expertise: str) -> str:
    """A fresh deck in the database, of cells this rater has not seen where there are enough; gives its token."""
    store = loaders.quiz_store()
    cells = loaders.cells(screen)
    dealt = decks.deal(
        cells,
        lambda rows: loaders.patches(screen, rows),
        loaders.bundle(model),
        np.random.default_rng(),
        decks.DeckOptions(n_each, n_each, protocol=protocol, hidden_px=window_px(screen)),
        held_out=loaders.held_out(screen, model),
        avoid=store.cells_seen(rater, screen.name),
    )
    return store.open_deck(
        dealt,
        rater=rater,
        expertise=expertise,
        screen=screen.name,
        model=model,
        channels=screen.record.channels,
    )


def open_table(decks_open: list[answers.DeckState]) -> pd.DataFrame:
    """The decks that still take answers, as All raters lists them."""
    return pd.DataFrame(
        [
            (deck.rater, deck.screen, deck.model, f"{deck.n_answered} of {deck.n_cards}", answers.day(deck.open_until))
            for deck in decks_open
        ],
        columns=["Rater", "Screen", "Model", "Answered", "Open until"],
    )


def csv(calls: pd.DataFrame) -> str:
    """Calls as a table to download; a name that a spreadsheet would take for a formula begins with an apostrophe."""
    names = calls[scores.RATER].str.replace(r"^(?=[=+\-@\t\r])", "'", regex=True)
    return csv_text(calls.assign(**{scores.RATER: names}))


def percent(share: scores.Share) -> str:
    """A share in words, such as ``40 %``; a dash where nothing was counted."""
    return f"{100 * share.share:.0f} %" if share.n else "–"


def interval(share: scores.Share) -> str:
    """The 95 % interval of a share in words."""
    return f"95 % interval {100 * share.low:.0f}–{100 * share.high:.0f} %" if share.n else "no cards"


def estimate(of: scores.Estimate) -> str:
    """The 95 % interval of d' or a criterion in words, open where one kind of card got one answer throughout."""
    if np.isnan(of.value):
        return "one kind of card was not shown"
    if np.isinf(of.low) and np.isinf(of.high):
        return "95 % interval open to both sides"
    if np.isinf(of.high):
        return f"95 % interval from {of.low:.1f} upwards"
    if np.isinf(of.low):
        return f"95 % interval up to {of.high:.1f}"
    return f"95 % interval {of.low:.1f} to {of.high:.1f}"


def leaning(of: scores.Estimate) -> str:
    """What a criterion means, as far as its interval settles it."""
    if of.low > 0:
        return "leans to calling cards real"
    if of.high < 0:
        return "leans to calling cards synthetic"
    return "no leaning shown"


def drawn(protocol: str, hidden_px: int) -> str:
    """How the cards of a deck were drawn, in few words: results are compared only where this is the same."""
    return f"{protocol}, " + (f"outer {hidden_px} px hidden" if hidden_px else "whole patches")


def comparison(rows: list[tuple[str, scores.Share]], protocol: str) -> pd.DataFrame:
    """Shares of synthetic cells called real (%): ``name``, ``share``, ``low``, ``high``, ``n``, ``published``.

    The published ones come last and only beside decks shown as decoded, as theirs were.
    """
    table = [(name, s.share, s.low, s.high, f"n = {s.n}", False) for name, s in rows if s.n]
    for known in scores.REFERENCES if protocol == decks.DeckProtocol.AS_DECODED else ():
        low = high = float("nan")
        if known.n_synthetic:
            counted = scores.wilson(round(known.share * known.n_synthetic), known.n_synthetic)
            low, high = counted.low, counted.high
        said = f"n = {known.n_synthetic}" if known.n_synthetic else "n not given"
        table.append((known.source, known.share, low, high, said, True))
    made = pd.DataFrame(table, columns=["name", "share", "low", "high", "n", "published"])
    made[["share", "low", "high"]] *= 100
    return made


def comparison_figure(table: pd.DataFrame) -> Any:
    """Points with intervals, one row per line of a `comparison`; the published ones in grey."""
    import plotly.graph_objects as go

    colours = ["#8a949b" if published else "#0072B2" for published in table["published"]]
    symbols = ["diamond" if published else "circle" for published in table["published"]]
    figure = go.Figure(
        go.Scatter(
            x=table["share"],
            y=[f"{name}<br>{n}" for name, n in zip(table["name"], table["n"], strict=True)],
            mode="markers",
            marker={"size": 11, "color": colours, "symbol": symbols},
            error_x={
                "type": "data",
                "array": (table["high"] - table["share"]).fillna(0),
                "arrayminus": (table["share"] - table["low"]).fillna(0),
                "thickness": 1.6,
                "width": 4,
                "color": "#8a949b",
            },
            hovertemplate="%{x:.1f} %<extra></extra>",
        )
    )
    figure.update_layout(
        height=84 + 44 * len(table),
        margin={"l": 8, "r": 16, "t": 8, "b": 40},
        xaxis={"range": [0, 100], "title": "synthetic cells called real (%)", "fixedrange": True},
        yaxis={"autorange": "reversed", "automargin": True, "fixedrange": True, "title": None},
        showlegend=False,
    )
    return figure


def by_group(calls: pd.DataFrame, column: str, label: str, *, sensitivity: bool = False) -> pd.DataFrame:
    """`scores.score_by` in %, with headings fit to be shown; the group with most synthetic cards first.

    d-prime only where asked for: of the few cards of one mechanism it says little.
    """
    found = scores.score_by(calls, column, scores.CLUSTERS).sort_values("n_synthetic", ascending=False, kind="stable")
    made = pd.DataFrame(
        {
            label: found[column],
            "Synthetic": found["n_synthetic"],
            "Called real": found["fooled"],
            "Called real (%)": 100 * found["fooled_share"],
            "95 % interval": [
                f"{100 * low:.0f}–{100 * high:.0f} %" if n else "–"
                for low, high, n in zip(found["fooled_low"], found["fooled_high"], found["n_synthetic"], strict=True)
            ],
            "Real": found["n_real"],
            "Accuracy (%)": 100 * found["accuracy"],
        }
    )
    if sensitivity:
        made["d′"] = found["d_prime"]
        ranges = zip(found["d_prime"], found["d_prime_low"], found["d_prime_high"], strict=True)
        made["d′ 95 %"] = [estimate(scores.Estimate(*each)).removeprefix("95 % interval ") for each in ranges]
    return made


def sheets(calls: pd.DataFrame, pictures: npt.NDArray[np.uint8]) -> list[tuple[str, str, npt.NDArray[np.uint8]]]:
    """A finished deck sorted by truth and answer: title, treatments in words, and a contact sheet (H, W, 4) uint8."""
    truth, said = calls[decks.SYNTHETIC].to_numpy(bool), calls[scores.CALLED_REAL].to_numpy(bool)
    groups = (
        ("Synthetic, taken for real", truth & said),
        ("Synthetic, recognised", truth & ~said),
        ("Real, taken for synthetic", ~truth & ~said),
        ("Real, recognised", ~truth & said),
    )
    made = []
    for title, chosen in groups:
        if chosen.any():
            names = ", ".join(map(loaders.named, sorted(set(calls.loc[chosen, schema.TREATMENT]))))
            made.append((f"{title}: {int(chosen.sum())}", names, contact_sheet(pictures[chosen])))
    return made


def contact_sheet(pictures: npt.NDArray[np.uint8], columns: int = 8, gap_px: int = 2) -> npt.NDArray[np.uint8]:
    """Pictures (n, H, W, C) in rows on a clear ground: (H', W', 4) uint8, the first three channels as RGB."""
    n, height, width, channels = pictures.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = np.zeros((rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 4), dtype=np.uint8)
    for k, picture in enumerate(pictures):
        y, x = (k // columns) * (height + gap_px), (k % columns) * (width + gap_px)
        shown = min(3, channels)
        sheet[y : y + height, x : x + width, :shown] = picture[:, :, :shown]
        sheet[y : y + height, x : x + width, 3] = 255
    return sheet
