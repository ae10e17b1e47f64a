from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cytovae import schema
from cytovae.errors import ConfigError, SelectionError
from cytovae.explore import morphology, study, targets
from cytovae.patches import normalise


def material(small, cells=None):
    read = small.images.__getitem__
    return study.Material(small.cells if cells is None else cells, small.z, small.generator, "DMSO", "small", read=read)


def draw(small, seed=0, **options):
    return study.draw(material(small), study.Request(**options, seed=seed))


def test_the_papers_path_leads_from_the_plates_typical_control_to_the_treatments_typical_cell(small):
    got = draw(small, treatment="grow@3", steps=6)
    end = targets.treated(small.cells, small.z, "grow@3")
    start = targets.typical_control(small.cells, small.z, "DMSO", like=end.row)
    assert (got.path.control_id, got.path.target_id) == (start.cell_id, end.cell_id)
    np.testing.assert_array_equal(got.path.z[[0, -1]], small.z[[start.row, end.row]])
    assert not np.isin(got.evidence.nearest_rows, [start.row, end.row]).any()
    assert got.evidence.gap_closed is not None and got.null is not None
    np.testing.assert_allclose(got.real, normalise(small.images[[start.row, end.row]]))
    np.testing.assert_allclose(got.near, normalise(small.images[got.evidence.nearest_rows[:, 0]]))
    assert got.title == "DMSO to grow 3 µM"


def test_the_reverse_path_has_the_same_ends_the_other_way(small):
    there, back = draw(small, treatment="grow@3"), draw(small, treatment="grow@3", reverse=True)
    np.testing.assert_array_equal(back.path.z[[0, -1]], there.path.z[[-1, 0]])
    np.testing.assert_array_equal(back.start_rows, there.end_rows)
    assert back.title == "grow 3 µM back to DMSO"


def test_a_path_from_one_compound_to_another_starts_at_its_typical_cell(small):
    got = draw(small, treatment="dim@1", start_treatment="grow@3")
    assert got.start.cell_id == targets.treated(small.cells, small.z, "grow@3").cell_id
    assert (small.cells[schema.TREATMENT][got.start_rows] == "grow@3").all()


def test_a_dose_series_shows_one_cell_per_dose_and_no_cell_is_its_own_evidence(small):
    got = draw(small, dose_series="grow")
    assert got.path.labels == ("DMSO", "0.3 µM", "3 µM")
    rows = [targets.closest_to_mean(small.z, targets.rows_of(small.cells, t)) for t in ("grow@0.3", "grow@3")]
    np.testing.assert_array_equal(got.path.z[1:], small.z[rows])
    assert not np.isin(got.evidence.nearest_rows, [got.start.row, *rows]).any()


def test_random_choices_follow_the_seed(small):
    a, b, c = (draw(small, seed, treatment="grow@3", target="random", control="random") for seed in (1, 1, 2))
    assert a.path.control_id == b.path.control_id and a.path.target_id == b.path.target_id
    assert (a.path.control_id, a.path.target_id) != (c.path.control_id, c.path.target_id)


def test_a_growing_nucleus_leads_the_ranking(small):
    got = draw(small, treatment="grow@3")
    along = study.along(material(small), got)
    by_name = along.ranked.set_index("measure")
    assert by_name["change_sd"]["nucleus_area_px2"] > 3
    assert by_name["expected_sd"]["nucleus_area_px2"] > 3
    assert along.ranked["measure"][0] in ("nucleus_area_px2", "nucleus_to_cell_area")


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"start_treatment": "dim@1"}])
def test_a_population_path_closes_the_gap(small, options):
    request = study.Request(treatment="grow@3", steps=3, **options)
    cells = small.cells.copy()
    cells[schema.WELL] += np.where(np.arange(len(cells)) % 2, "a", "b")  # four wells a treatment
    got = study.population(material(small, cells), request, 8)
    assert (
        f"{len(np.unique(got.end_rows))} different cells of {len(np.unique(targets.wells(cells, got.end_rows)))} wells"
        in got.units
    )
    assert got.path.z.shape == (8, 3, 24)
    assert got.cosine["gap_closed"][0] == 0
    assert got.cosine["gap_closed"][2] > 0.5
    assert (got.cosine["low"] <= got.cosine["mean"]).all() and (got.cosine["mean"] <= got.cosine["high"] + 1e-12).all()
    area = got.curves[got.curves["measure"] == "nucleus_area_px2"].sort_values("step")
    sign = -1 if options.get("reverse") else 1
    assert (sign * area["change"]).iloc[-1] > 100
    assert (sign * (area["change_low"] if sign > 0 else area["change_high"])).iloc[-1] > 0


def test_two_wells_claim_less_than_four(small):
    request = study.Request(treatment="grow@3", steps=2)
    cells = small.cells.copy()
    cells[schema.WELL] += np.where(np.arange(len(cells)) % 2, "a", "b")
    two, four = (study.population(material(small, table), request, 12) for table in (small.cells, cells))
    width = [(many.cosine["high"] - many.cosine["low"])[0] for many in (two, four)]
    assert width[0] > 2 * width[1]


def test_one_control_well_leaves_the_path_and_says_what_is_missing(small):
    cells = small.cells.copy()
    cells.loc[cells[schema.COMPOUND] == "DMSO", [schema.PLATE, schema.WELL]] = ["Week1_A", "B02"]
    got = study.draw(material(small, cells), study.Request(treatment="grow@3"))
    assert got.verdict.level == study.Level.UNKNOWN and got.verdict.sentence.startswith("Too few control wells")
    assert got.evidence.length_percentile is None
    assert any("no null paths" in note for note in got.notes)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ConfigError, "name one of the two"),
        ({"treatment": "grow@3", "dose_series": "grow"}, ConfigError, "name one of the two"),
        ({"dose_series": "grow", "reverse": True}, ConfigError, "leads upwards"),
        (
            {"treatment": "grow@3", "start_treatment": "dim@1", "control": "cell-0001"},
            ConfigError,
            "name one of the two",
        ),
        ({"dose_series": "DMSO"}, SelectionError, "is the control itself"),
        ({"treatment": "grow@3", "control": "cell-9999"}, SelectionError, "there is no cell 'cell-9999'"),
        ({"treatment": "grow@3", "steps": 1}, ConfigError, "2 to 64 steps"),
        ({"treatment": "grow@3", "mode": "curly"}, ConfigError, "unknown mode 'curly'; choose top-features, linear"),
    ],
)
def test_requests_that_cannot_be_are_one_clear_sentence(small, options, error, words):
    with pytest.raises(error, match=words):
        draw(small, **options)


def test_a_treatment_of_one_cell_is_its_own_target(small):
    cells = small.cells.copy()
    rows = targets.rows_of(cells, "grow@3")
    cells.loc[rows[1:], schema.BLANK] = True
    got = study.draw(material(small, cells), study.Request(treatment="grow@3"))
    assert got.end.row == rows[0] and got.end.how == "the only cell of grow 3 µM"
    assert study.subpopulations(material(small, cells), study.Request(treatment="grow@3")).groups[0].share == 1.0


def on_plates(make_table, wells=4, each=8, plates=3, treated=3):
    rows = [(f"Week1_{p}", f"B{w:02d}", "DMSO", 0.0) for p in range(plates) for w in range(wells) for _ in range(each)]
    rows += [(f"Week1_{p}", "C02", "x", 1.0) for p in range(plates) for _ in range(treated)]
    return make_table(rows), np.random.default_rng(1).normal(size=(len(rows), 16)).astype(np.float32)


@pytest.mark.parametrize("apart", [targets.Relation.PLATE, targets.Relation.BATCH])
def test_null_paths_are_chosen_as_the_requests_own_ends_are(make_table, apart):
    cells, z = on_plates(make_table, wells=20)
    rng = np.random.default_rng(1)
    like = targets.rows_of(cells, "x@1")
    for central in (True, False):
        made = targets.null_draws(
            cells, z, "DMSO", like, 60, rng, apart=apart, typical_end=central, typical_start=central
        )
        assert made.alike and made.n_groups == 20  # 60 wells, three a group
        for draw in made.draws:
            group, pool = cells.iloc[draw.end_rows], cells.iloc[draw.start_rows]
            assert len(group) == 9 and group[schema.PLATE].nunique() == 3  # as many cells, of as many plates
            wells = [set(zip(part[schema.PLATE], part[schema.WELL], strict=True)) for part in (group, pool)]
            assert not wells[0] & wells[1]
            same = (pool[schema.PLATE] == cells[schema.PLATE][draw.end]).to_numpy()
            assert same.all() if apart == targets.Relation.PLATE else not same.any()
            assert draw.end in draw.end_rows and draw.start in draw.start_rows
            if central:
                assert draw.end == targets.closest_to_mean(z, draw.end_rows)
                assert draw.start == targets.closest_to_mean(z, draw.start_rows)
        assert len({(d.start, d.end) for d in made.draws}) > 20


def test_too_few_control_wells_give_smaller_groups_or_no_p(make_table):
    like = lambda cells: targets.rows_of(cells, "x@1")  # noqa: E731
    cells, z = on_plates(make_table, wells=10)  # 30 wells: nine cells of three wells would be ten groups
    made = targets.null_draws(cells, z, "DMSO", like(cells), 40, np.random.default_rng(0))
    assert not made.alike and made.n_groups >= targets.MIN_GROUPS
    assert all(len(draw.end_rows) == 3 for draw in made.draws)  # a well's worth of the treatment's cells
    cells, z = on_plates(make_table, wells=2)
    made = targets.null_draws(cells, z, "DMSO", like(cells), 40, np.random.default_rng(0))
    assert made.n_groups == 6 and not made.alike
    null = study.Null(made.draws, np.ones(40), np.ones(40), "", made.n_groups, made.alike)
    assert null.p(100.0) is None


def test_a_request_by_response_is_compared_with_groups_that_respond(make_table):
    cells, z = on_plates(make_table, wells=20)
    picked = []

    def choose(group, pool):
        assert len(group) == 9 and set(cells[schema.PLATE][pool]) == set(cells[schema.PLATE][group])
        picked.append(len(picked) % 2)
        return int(group[0]) if picked[-1] else None

    made = targets.null_draws(
        cells, z, "DMSO", targets.rows_of(cells, "x@1"), 60, np.random.default_rng(0), choose=choose
    )
    assert len(picked) == 60 and len(made.draws) == 30 and made.n_groups == 10  # 30 wells began one
    with pytest.raises(SelectionError, match="could be chosen as the request's was"):
        targets.null_draws(
            cells, z, "DMSO", targets.rows_of(cells, "x@1"), 5, np.random.default_rng(0), choose=lambda *_: None
        )


def test_few_distinct_null_paths_give_no_percentile():
    draws = tuple(targets.NullDraw(i % 19, 50, np.arange(2), np.arange(2)) for i in range(200))
    lengths = np.arange(200.0)
    few = study.Null(draws, lengths, lengths, "", 30)
    assert few.n_distinct == 19 and few.percentile(100.0) is None
    enough = study.Null((*draws[:-1], targets.NullDraw(19, 50, np.arange(2), np.arange(2))), lengths, lengths, "", 30)
    assert enough.percentile(99.0) == 50.0


def test_p_is_the_rank_among_the_groups_that_share_no_well():
    draws = tuple(targets.NullDraw(i, 50, np.arange(2), np.arange(2)) for i in range(24))
    null = study.Null(draws, np.arange(24.0), np.arange(24.0), "", 24)
    for length in (-1.0, 3.0, 22.5, 99.0):  # a path of each group: the exact rank p
        assert null.p(length) == pytest.approx((1 + sum(x >= length for x in range(24))) / 25)
    assert dataclasses.replace(null, n_groups=18).p(99.0) is None
    assert dataclasses.replace(null, n_groups=19).p(99.0) == 0.05


def test_the_verdict_follows_the_null(small):
    got = draw(small, treatment="grow@3")
    paths_ = tuple(targets.NullDraw(i, 50, np.arange(2), np.arange(2)) for i in range(40))
    null = study.Null(paths_, np.ones(40), np.zeros(40), "", 40)
    for p, typicality, level in ((0.5, 0.9, "nothing"), (0.01, 0.9, "shown"), (0.01, -0.1, "doubtful")):
        found = dataclasses.replace(got.evidence, length_percentile=50.0, length_p=p, typicality=typicality)
        verdict = dataclasses.replace(got, null=null, evidence=found).verdict
        assert verdict.level == level
        assert verdict.sentence.startswith("This pair ")
        longer = dataclasses.replace(got, null=dataclasses.replace(null, alike=False), evidence=found).verdict
        assert longer.level == ("unknown" if p > 0.05 else level)


@pytest.mark.parametrize("target", ["mean", "responding"])
def test_a_verdict_without_pictures_is_that_of_the_path(small, target):
    request = study.Request(treatment="grow@3", target=target, reverse=target == "mean")
    assert study.verdict(material(small), request) == study.draw(material(small), request).verdict


def test_a_sketch_shows_the_pictures_of_the_path_and_asks_for_no_evidence(small):
    made, request = material(small), study.Request(treatment="grow@3", reverse=True)
    sketch = study.sketch(made, request)
    assert not {"ground", "plausible"} & vars(made).keys()
    drawn = study.draw(made, request, begun=sketch)
    assert {"ground", "plausible"} <= vars(made).keys()
    again = study.draw(material(small), request)
    np.testing.assert_array_equal(drawn.near, again.near)
    assert study.document(drawn) == study.document(again)
    np.testing.assert_array_equal(sketch.path.frames, drawn.path.frames)
    np.testing.assert_array_equal(sketch.real, drawn.real)
    assert (sketch.start, sketch.end) == (drawn.start, drawn.end)


def test_long_work_asks_now_and_then_whether_it_is_still_wanted(small):
    class GoneError(Exception):
        pass

    def gone():
        raise GoneError

    made, request, asked = material(small), study.Request(treatment="grow@3", steps=3), []
    made.check = lambda: asked.append(1)
    drawn = study.draw(made, request)
    before = len(asked)
    study.along(made, drawn)
    assert len(asked) - before > 2 * len(made.channels)
    made.check = gone
    for work in (study.along, study.real_difference, lambda made, _: study.population(made, request, 2)):
        with pytest.raises(GoneError):
            work(made, drawn)
    with pytest.raises(GoneError):
        other = material(small)
        other.check = gone
        _ = other.plausible


@pytest.mark.parametrize("target", ["mean", "responding", "random"])
def test_null_paths_are_those_of_all_requests_that_differ_in_how_the_path_goes(small, target):
    made = material(small)
    request = study.Request("grow@3", target, steps=5, mode="linear", spacing="count", reverse=target == "mean")
    mine, shared = (study.null_paths(made, each) for each in (request, study.null_request(request)))
    assert study.null_request(request) != request
    assert [(d.start, d.end) for d in mine.draws] == [(d.start, d.end) for d in shared.draws]
    assert study.document(study.draw(made, request, shared)) == study.document(study.draw(made, request))
    for other in ({"target": "blank"}, {"control": "random"}, {"seed": 1}, {"treatment": "none@3"}):
        assert study.null_request(dataclasses.replace(request, **other)) != study.null_request(request)


@pytest.mark.parametrize(("target", "n"), [("mean", 80), ("responding", 40)])
def test_a_treatment_that_does_nothing_is_seldom_said_to_differ(monkeypatch, target, n):
    from benchmarks.evidence_nulls import Design, false_alarms

    monkeypatch.setattr(study, "N_NULL", 60)
    design = Design(plates=5, wells=5, cells=8, treated_cells=8, sd_well=0.8, sd_plate=0.8)
    alarms, given, asked, _ = false_alarms(design, target, n, np.random.default_rng(0))
    assert given > 0.8 * asked > 0.5 * n
    assert alarms <= 0.05 * given + 2.6 * np.sqrt(0.05 * 0.95 * given)


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_straight_and_arc_paths_speak_of_the_way_not_of_features(small, mode):
    got = draw(small, treatment="grow@3", mode=mode, spacing="count", steps=5)
    assert got.path.captions[0] == "0 % of the way" and got.path.captions[-1] == "100 % of the way"
    steps = study.document(got)["steps"]
    assert [step["n_features"] for step in steps] == [None] * 5
    assert [step["way"] for step in steps][::4] == [0.0, 1.0]
    assert b"features" not in study.content(got, study.Form.SVG)


def test_exports_hold_the_real_ends_and_follow_the_view(small, tmp_path):
    got = draw(small, treatment="grow@3", steps=4)
    figure = study.Figure(look="grey", channels=(1,))
    study.write(got, tmp_path / "a.svg", figure)
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<image") == 4 + 4 + 2 and "not shown: DNA, Actin" in text
    assert got.start.cell_id in text and got.end.cell_id[:8] in text
    with pytest.raises(ConfigError, match=r"'a\.bmp' ends in none of"):
        study.write(got, tmp_path / "a.bmp")


def test_raw_brightness_stands_beside_the_shares(small):
    got = draw(small, treatment="dim@1", steps=2)
    table = study.raw_intensity(material(small), got).set_index("channel")
    grey = morphology.grey_levels(small.images, small.generator.channels)
    nucleus, cell = morphology.masks(small.images[[got.end.row]], small.generator.channels)
    picture = small.images[got.end.row]
    assert table.loc["DNA", "where"] == "nucleus" and table.loc["Actin", "where"] == "cell"
    assert table.loc["Actin", "end_grey"] == pytest.approx(picture[..., 2][cell[0]].mean())
    assert table.loc["DNA", "end_grey"] == pytest.approx(picture[..., 0][nucleus[0]].mean())
    plates = small.cells[schema.PLATE].to_numpy()
    rows, untreated = targets.rows_of(small.cells, "dim@1"), targets.controls(small.cells, "DMSO")
    usual = {p: grey[untreated[plates[untreated] == p], 2].mean() for p in set(plates)}
    relative = np.array([grey[row, 2] / usual[plates[row]] for row in rows])
    assert table.loc["Actin", "end_population"] == pytest.approx(relative.mean())
    assert table.loc["Actin", "end_relative"] == pytest.approx(grey[got.end.row, 2] / usual[plates[got.end.row]])
    assert table.loc["Actin", "end_population_high"] < 0.8 < table.loc["Actin", "start_population_low"]
    assert (table["n_end"] == len(rows)).all() and (table["n_controls"] == len(untreated)).all()
    few = small.cells.copy()
    few.loc[untreated[plates[untreated] == "Week1_A"][4:], schema.BLANK] = True
    poor = study.raw_intensity(material(small, few), dataclasses.replace(got, end=got.start, start=got.end))
    assert study.raw_intensity(study.Material(small.cells, small.z, small.generator, "DMSO"), got) is None
    assert (poor["n_controls"] == (plates[untreated] == "Week2_B").sum()).all()


def test_the_real_cells_behind_a_path_are_measured_as_imaged(small):
    got = draw(small, treatment="grow@3")
    made = material(small)
    real, first, second = study.real_difference(made, got)
    tables = [morphology.measure(small.images[rows], made.channels) for rows in (got.start_rows, got.end_rows)]
    want = (tables[1].mean() - tables[0].mean()) / tables[0].std()
    np.testing.assert_allclose(real.loc["nucleus_area_px2", "sd"], want["nucleus_area_px2"])
    assert real.loc["nucleus_area_px2", "low"] > 1 and (first, second) == (len(got.start_rows), len(got.end_rows))
