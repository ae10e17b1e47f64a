"""A deck is balanced, blinded, and its pictures carry no trivial mark of what they are."""

from __future__ import annotations

import copy
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from cytovae import schema
from cytovae.errors import QuizError, TableError
from cytovae.quiz import deck, leaks
from cytovae.quiz.deck import DeckOptions, DeckProtocol

from .conftest import EDGE_PX, Bordered, Identity, Screen


def auc(values: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> float:
    """Share of pairs in which the positive one is larger, ties counting half; 0.5 where a statistic tells nothing."""
    u = stats.mannwhitneyu(values[positive], values[~positive]).statistic
    return float(u / (positive.sum() * (~positive).sum()))


def file_statistics(pictures: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """What a rater's script would try first, per picture and per channel: none of it needs to look."""
    flat = pictures.reshape(len(pictures), -1, pictures.shape[-1])
    per_channel = {
        "min": flat.min(1),
        "max": flat.max(1),
        "zeros": (flat == 0).sum(1),
        "full": (flat == 255).sum(1),
        "gcd of levels": np.array([[np.gcd.reduce(np.unique(p[:, c])) for c in range(p.shape[1])] for p in flat]),
        "size": np.full((len(flat), 1), pictures[0].nbytes),
    }
    return {f"{name} {c}": v[:, c] for name, v in per_channel.items() for c in range(v.shape[1])}


def grey_value_statistics(pictures: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
    """What can be said of a picture with its pixels shuffled."""
    flat = pictures.reshape(len(pictures), -1, pictures.shape[-1]).astype(float)
    levels = [[len(np.unique(p[:, c])) for c in range(p.shape[1])] for p in flat]
    histograms = np.array([np.bincount(p.ravel().astype(int), minlength=256) for p in flat]) / flat[0].size
    return {
        "mean": flat.mean((1, 2)),
        **{f"mean {c}": flat[:, :, c].mean(1) for c in range(flat.shape[-1])},
        "spread": flat.std(1).mean(1),
        "median": np.median(flat, axis=1).mean(1),
        "levels": np.array(levels).sum(1),
        "entropy": stats.entropy(histograms, axis=1),
        "odd values": (pictures % 2).mean((1, 2, 3)),
        "near black": (flat < 16).mean((1, 2)),
        "near white": (flat > 240).mean((1, 2)),
    }


def test_deck_has_the_asked_cards_and_no_cell_twice(screen: Any, betraying: Any) -> None:
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(1), DeckOptions(20, 30))
    assert dealt.cards["synthetic"].sum() == 30
    assert len(dealt.cards) == len(dealt.pictures) == 50
    assert dealt.cards[schema.CELL_ID].is_unique
    assert set(dealt.cards[schema.CELL_ID]) <= set(screen.cells[schema.CELL_ID])
    named = dealt.cards.merge(screen.cells, on=schema.CELL_ID, validate="one_to_one")
    assert (named[f"{schema.TREATMENT}_x"] == named[f"{schema.TREATMENT}_y"]).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_treatment_gives_as_many_real_as_synthetic_cards(screen: Any, betraying: Any, seed: int) -> None:
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(seed), DeckOptions(12, 12))
    counts = dealt.cards.groupby(schema.TREATMENT)["synthetic"].agg(["sum", "size"])
    assert (2 * counts["sum"] == counts["size"]).all()
    # seven treatments have two cells or more, and six of them four or more: nobody gives a third pair of 12 needlessly
    assert counts["size"].max() <= 4


def test_uneven_treatments_are_drawn_evenly_until_they_run_out(screen: Any, betraying: Any) -> None:
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(0), DeckOptions(30, 30))
    pairs = dealt.cards.groupby(schema.TREATMENT)["synthetic"].sum()
    assert "drug7@1" not in pairs  # one cell makes no pair
    assert pairs["drug6@1"] == 1
    assert pairs["drug5@1"] == 3
    rich = pairs[["drug0@1", "drug1@1", "drug2@1", "drug3@1", "drug4@1"]]
    assert rich.max() - rich.min() <= 1


def test_the_order_tells_nothing() -> None:
    first, neighbours = 0, 0
    small = Screen(edge_px=8)
    identity = Identity((8, 8, 3))
    for seed in range(200):
        truth = (
            deck.deal(small.cells, small.read, identity, np.random.default_rng(seed), DeckOptions(5, 5, hidden_px=1))
            .cards["synthetic"]
            .to_numpy()
        )
        first += int(truth[0])
        neighbours += int((truth[1:] == truth[:-1]).sum())
    assert stats.binomtest(first, 200).pvalue > 0.001
    assert stats.binomtest(neighbours, 1800, 4 / 9).pvalue > 0.001


def test_same_seed_same_deck_other_seed_other_deck(screen: Any, betraying: Any) -> None:
    one, same, other = (
        deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(s), DeckOptions(8, 8)) for s in (4, 4, 5)
    )
    assert one.cards.equals(same.cards)
    assert (one.pictures == same.pictures).all()
    assert not one.cards.equals(other.cards)


def test_a_perfect_generator_deals_the_very_bytes_of_the_real_cell(screen: Any, identity: Any) -> None:
    rng, at_reading = np.random.default_rng(7), list[np.random.Generator]()

    def read(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        at_reading.append(copy.deepcopy(rng))  # cells are chosen, nothing is dithered yet
        return screen.read(rows)

    dealt = deck.deal(screen.cells, read, identity, rng, DeckOptions(20, 20, hidden_px=0))
    row = screen.cells.set_index(schema.CELL_ID).index.get_indexer(dealt.cards[schema.CELL_ID])
    patches = screen.patches[row]
    as_real = deck.as_pictures(patches.astype(np.int64), deck.camera_step(patches), at_reading[0].random(patches.shape))
    assert (dealt.pictures == as_real).all()


def test_a_perfect_generator_deals_the_very_bytes_through_the_window(screen: Any, identity: Any) -> None:
    rng, at_reading = np.random.default_rng(7), list[np.random.Generator]()

    def read(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        at_reading.append(copy.deepcopy(rng))
        return np.asarray(screen.read(rows))

    dealt = deck.deal(screen.cells, read, identity, rng, DeckOptions(20, 20))
    shown = deck.window((EDGE_PX, EDGE_PX), 6)
    patches = screen.patches[screen.cells.set_index(schema.CELL_ID).index.get_indexer(dealt.cards[schema.CELL_ID])]
    seen = patches[:, shown][:, None].astype(np.int64)
    as_real = deck.as_pictures(seen, deck.camera_step(patches), at_reading[0].random(seen.shape))
    assert (dealt.pictures[:, shown] == as_real[:, 0]).all()


def test_no_file_statistic_separates_the_classes(screen: Any, betraying: Any) -> None:
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(0), DeckOptions(50, 50))
    for name, values in file_statistics(dealt.pictures).items():
        assert len(np.unique(values)) == 1, f"{name} differs between cards"


def test_no_statistic_of_grey_values_separates_the_classes(screen: Any, betraying: Any) -> None:
    """Mean, spread, quantiles, number of levels: distributed alike by construction, whatever the generator does."""
    truth, seen = [], []
    for seed in range(4):
        dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(seed), DeckOptions(50, 50))
        truth.append(dealt.cards["synthetic"].to_numpy())
        seen.append(grey_value_statistics(dealt.pictures))
    for name in seen[0]:
        told = auc(np.concatenate([s[name] for s in seen]), np.concatenate(truth))
        assert abs(told - 0.5) < 0.12, f"{name} tells the classes apart: {told}"  # 200 + 200 cards: s.d. 0.029


def test_a_synthetic_card_has_the_grey_values_of_its_cell_in_the_generators_order(screen: Any, betraying: Any) -> None:
    patches = screen.patches[:10]
    images = betraying.decode(betraying.encode(patches)).astype(float)
    levels = deck.with_grey_values_of(patches, images, np.random.default_rng(0).random(patches.shape))
    for i, c in np.ndindex(10, 3):
        assert (np.sort(levels[i, :, :, c], axis=None) == np.sort(patches[i, :, :, c], axis=None)).all()
        by_image = np.argsort(images[i, :, :, c], axis=None)
        brighter = np.diff(images[i, :, :, c].ravel()[by_image]) > 0
        assert (np.diff(levels[i, :, :, c].ravel()[by_image])[brighter] >= 0).all()


def test_equal_pixels_take_their_grey_values_in_no_order(screen: Any) -> None:
    flat = np.zeros(screen.patches[:1].shape)
    levels = deck.with_grey_values_of(screen.patches[:1], flat, np.random.default_rng(0).random(flat.shape))
    rows = levels[0, :, :, 0].mean(axis=1)
    assert abs(stats.spearmanr(np.arange(len(rows)), rows).statistic) < 0.4  # not a slope from top to bottom


def test_the_same_statistics_would_betray_pictures_made_the_plain_way(screen: Any, betraying: Any) -> None:
    """The reason for all this: dividing by the maximum alone gives the classes away, so the test above can fail."""
    real = betraying.decode(betraying.encode(screen.patches[:50])) * 0 + (
        screen.patches[:50] / screen.patches[:50].max(axis=(1, 2), keepdims=True)
    )
    synthetic = betraying.decode(betraying.encode(screen.patches[50:100]))
    plain = np.rint(255 * np.concatenate([real, synthetic]).clip(0, 1)).astype(np.uint8)
    truth = np.arange(100) >= 50
    flat = plain.reshape(100, -1, 3)
    for values in ((flat == 0).mean((1, 2)), flat.max(1).max(1), flat.min(1).min(1)):
        assert abs(auc(values, truth) - 0.5) > 0.45


def test_compressibility_and_brightness_are_the_pictures_own(screen: Any, identity: Any) -> None:
    """With a perfect generator even these, which a picture cannot but show, tell nothing."""
    truth, sizes, means = [], [], []
    for seed in range(4):
        dealt = deck.deal(screen.cells, screen.read, identity, np.random.default_rng(seed), DeckOptions(50, 50))
        truth.append(dealt.cards["synthetic"].to_numpy())
        sizes.append([len(zlib.compress(p.tobytes())) for p in dealt.pictures])
        means.append(dealt.pictures.mean((1, 2, 3)))
    for values in (sizes, means):
        assert abs(auc(np.concatenate(values), np.concatenate(truth)) - 0.5) < 0.12  # 200 + 200 cards: s.d. 0.029


@pytest.mark.parametrize("protocol", DeckProtocol)
def test_both_kinds_are_seen_through_the_same_window(screen: Any, betraying: Any, protocol: DeckProtocol) -> None:
    options = DeckOptions(10, 10, protocol=protocol)
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(0), options)
    y, x = np.mgrid[:EDGE_PX, :EDGE_PX] - (EDGE_PX - 1) / 2
    outside = np.hypot(y, x) > EDGE_PX / 2 - 6
    assert (dealt.pictures[:, outside] == 0).all()
    assert (dealt.pictures[:, ~outside].max(axis=1) > 30).all()
    assert (deck.window((EDGE_PX, EDGE_PX), 6) == ~outside).all()


@pytest.mark.parametrize("shape", [(8, 8), (9, 15), (68, 68)])
def test_the_window_is_symmetric_and_keeps_its_distance(shape: tuple[int, int]) -> None:
    shown = deck.window(shape, 2)
    assert (shown == shown[::-1]).all()
    assert (shown == shown[:, ::-1]).all()
    assert not shown[:2].any()
    assert not shown[:, :2].any()
    assert shown[2].any()
    assert shown[:, 2].any()
    assert deck.window(shape, 0).all()


def test_as_decoded_shows_what_the_model_reads_and_draws(screen: Any, betraying: Any) -> None:
    options = DeckOptions(10, 10, protocol=DeckProtocol.AS_DECODED, hidden_px=0)
    dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(0), options)
    rows = screen.cells.set_index(schema.CELL_ID).index.get_indexer(dealt.cards[schema.CELL_ID])
    for picture, row, synthetic in zip(dealt.pictures, rows, dealt.cards["synthetic"], strict=True):
        patch = screen.patches[row : row + 1]
        seen = betraying.decode(betraying.encode(patch))[0] if synthetic else (patch / patch.max((1, 2)))[0]
        assert np.abs(picture - 255 * np.clip(seen, 0, 1)).max() <= 0.501


def test_as_decoded_betrays_by_grey_values_what_matched_does_not(screen: Any, betraying: Any) -> None:
    """The two protocols ask different questions, so their results never share an axis."""
    told = {}
    for protocol in DeckProtocol:
        options = DeckOptions(40, 40, protocol=protocol)
        dealt = deck.deal(screen.cells, screen.read, betraying, np.random.default_rng(0), options)
        told[protocol] = leaks.auc(dealt.pictures.max(axis=(1, 2, 3)), dealt.cards["synthetic"])
    assert told[DeckProtocol.MATCHED] == 0.5
    assert told[DeckProtocol.AS_DECODED] < 0.05


def test_the_window_takes_away_what_the_border_tells(screen: Any) -> None:
    """A decoder whose padding shows in the outer three pixels, which is all that tells its cells from real ones."""
    told: dict[int, dict[str, float]] = {}
    for hidden in (0, 6):
        truth, found = [], []
        for seed in range(3):
            options = DeckOptions(50, 50, hidden_px=hidden)
            dealt = deck.deal(screen.cells, screen.read, Bordered(), np.random.default_rng(seed), options)
            truth.append(dealt.cards["synthetic"].to_numpy())
            found.append(leaks.pixel_statistics(dealt.pictures, deck.window((EDGE_PX, EDGE_PX), hidden)))
        table, synthetic = pd.concat(found), np.concatenate(truth)
        told[hidden] = {name: leaks.auc(table[name], synthetic) for name in leaks.family(list(table), "border")}
    assert max(abs(v - 0.5) for v in told[0].values()) > 0.35, told[0]
    assert max(abs(v - 0.5) for v in told[6].values()) < 0.14, told[6]  # 150 + 150 cards: s.d. 0.033, nine statistics


def test_a_window_that_leaves_too_little_is_refused(screen: Any, identity: Any) -> None:
    with pytest.raises(
        QuizError, match="hiding 20 px at the edges leaves too little of patches of 68 x 68 px; hide at most 17"
    ):
        deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(5, 5, hidden_px=20))


def test_pictures_do_not_depend_on_gain_and_offset(screen: Any) -> None:
    levels = screen.patches[:6].astype(np.int64)
    step = deck.camera_step(screen.patches[:6])
    noise = np.random.default_rng(2).random(levels.shape)
    one, other = deck.as_pictures(levels, step, noise), deck.as_pictures(3 * levels - 7, 3 * step, noise)
    assert (one == other).all()


def test_pictures_keep_the_order_of_intensities(screen: Any) -> None:
    levels = screen.patches[:4].astype(np.int64)
    step = deck.camera_step(screen.patches[:4])
    pictures = deck.as_pictures(levels, step, np.random.default_rng(0).random(levels.shape))
    for card, channel in np.ndindex(4, 3):
        grey, light = pictures[card, :, :, channel].ravel().astype(int), levels[card, :, :, channel].ravel()
        order = np.argsort(light, kind="stable")
        apart = light[order][1:] > light[order][:-1]
        # a strictly brighter level is never drawn darker, but for the dither of one step
        slack = 255 * 16 / (np.quantile(light, 0.995) - np.quantile(light, 0.005)) + 1
        darker = np.maximum.accumulate(grey[order])[:-1] - grey[order][1:]
        assert (darker[apart] <= slack).all()


def test_a_picture_is_a_linear_stretch(screen: Any) -> None:
    levels = screen.patches[:4].astype(np.int64)
    noise = np.random.default_rng(0).random(levels.shape)
    pictures = deck.as_pictures(levels, np.ones(4, dtype=np.int64), noise).astype(float)
    for card, channel in np.ndindex(4, 3):
        light = levels[card, :, :, channel].ravel().astype(float)
        low, high = np.quantile(light, [0.005, 0.995])
        want = np.clip(255 * (light - low) / (high - low), 0, 255)
        assert np.abs(pictures[card, :, :, channel].ravel() - want).max() < 6


def test_a_blank_channel_stays_black(screen: Any) -> None:
    levels = screen.patches[:2].astype(np.int64)
    levels[0, :, :, 1] = 528
    pictures = deck.as_pictures(levels, np.array([16, 16]), np.random.default_rng(0).random(levels.shape))
    assert (pictures[0, :, :, 1] == 0).all()
    assert pictures[0, :, :, 0].max() == 255


def test_camera_step_is_the_distance_of_levels() -> None:
    rng = np.random.default_rng(0)
    twelve_bits = (16 * rng.integers(30, 4000, (1, 20, 20, 3))).astype(np.uint16)
    with_offset = (twelve_bits + 7).astype(np.uint16)
    sixteen_bits = rng.integers(0, 65535, (1, 20, 20, 3)).astype(np.uint16)
    flat = np.full((1, 20, 20, 3), 99, dtype=np.uint16)
    patches = np.concatenate([twelve_bits, with_offset, sixteen_bits, flat])
    assert deck.camera_step(patches).tolist() == [16, 16, 1, 1]


def test_blank_cells_are_not_dealt(screen: Any, identity: Any) -> None:
    screen.cells.loc[screen.cells.index % 2 == 0, schema.BLANK] = True
    dealt = deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(15, 15))
    blank = screen.cells.loc[screen.cells[schema.BLANK], schema.CELL_ID]
    assert not dealt.cards[schema.CELL_ID].isin(blank).any()


def test_held_out_wells_are_used_alone_where_they_suffice(screen: Any, identity: Any) -> None:
    apart = np.arange(len(screen.cells)) % 2 == 0
    small = deck.deal(
        screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(10, 10), held_out=apart
    )
    assert small.held_out
    assert small.cards[schema.CELL_ID].isin(screen.cells.loc[apart, schema.CELL_ID]).all()
    large = deck.deal(
        screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(60, 60), held_out=apart
    )
    assert not large.held_out
    untold = deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(5, 5))
    assert not untold.held_out


def test_a_rater_is_not_dealt_a_cell_again_while_others_are_left(screen: Any, identity: Any) -> None:
    rng = np.random.default_rng(0)
    first = deck.deal(screen.cells, screen.read, identity, rng, DeckOptions(20, 20))
    seen = set(first.cards[schema.CELL_ID])
    second = deck.deal(screen.cells, screen.read, identity, rng, DeckOptions(20, 20), avoid=seen)
    assert not second.cards[schema.CELL_ID].isin(seen).any()
    everything = set(screen.cells[schema.CELL_ID])
    third = deck.deal(screen.cells, screen.read, identity, rng, DeckOptions(20, 20), avoid=everything)
    assert len(third.cards) == 40


def test_too_few_cells_are_refused_in_words(screen: Any, identity: Any) -> None:
    with pytest.raises(QuizError, match=r"a deck of 500 \+ 500 cards .* 141 usable cells .* ask for a smaller deck"):
        deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(500, 500))


def test_a_generator_of_other_patches_is_refused(screen: Any, identity: Any) -> None:
    identity.decode = lambda z: np.zeros((len(z), 8, 8, 3), np.float32)
    with pytest.raises(QuizError, match=r"'identity' gives images of \(8, 8, 3\) for patches of \(68, 68, 3\)"):
        deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(5, 5))


def test_a_generator_that_diverged_is_refused(screen: Any, identity: Any) -> None:
    identity.decode = lambda z: np.full((len(z), 68, 68, 3), np.nan, np.float32)
    with pytest.raises(QuizError, match="not numbers"):
        deck.deal(screen.cells, screen.read, identity, np.random.default_rng(0), DeckOptions(5, 5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_real": 0}, "not 0 \\+ 50"),
        ({"n_synthetic": -1}, "not 50 \\+ -1"),
        ({"clip_percent": 0.0}, "not 0.0"),
        ({"clip_percent": 50.0}, "not 50.0"),
        ({"hidden_px": -1}, "not -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(QuizError, match=words):
        DeckOptions(**options)


def test_a_table_without_treatments_is_refused(screen: Any, identity: Any) -> None:
    with pytest.raises(TableError, match=schema.TREATMENT):
        deck.deal(screen.cells.drop(columns=schema.TREATMENT), screen.read, identity, np.random.default_rng(0))
