"""NSC, NSCB and what stands beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier

from cytovae import schema
from cytovae.errors import ProfileError, TableError
from cytovae.profiling import benchmark, precision, profiles, published
from cytovae.profiling.ranking import NSC, NSCB, RULES, Rule


def table(*rows: tuple[str, str, str, tuple[float, ...]]) -> pd.DataFrame:
    """Treatments from (compound@dose, mechanism, batch, features)."""
    out = []
    for name, moa, batch, features in rows:
        compound, dose = schema.parse_treatment(name)
        head = {schema.COMPOUND: compound, schema.CONCENTRATION: dose, schema.TREATMENT: name}
        out.append({**head, schema.MOA: moa, schema.BATCH: batch, **{f"z{k:03d}": v for k, v in enumerate(features)}})
    return pd.DataFrame(out)


def naive(treatments: pd.DataFrame, rule: Rule) -> dict[str, tuple[bool, str | None]]:
    """Treatment -> (scored, mechanism of the nearest admissible neighbour), by a double loop."""
    features = schema.feature_columns(treatments)
    rows = treatments.to_dict("records")
    similar = cosine_similarity(treatments[features].to_numpy())
    out = {}
    for i, a in enumerate(rows):
        best, neighbour, scored = -2.0, None, False
        for j, b in enumerate(rows):
            if i == j or a[schema.COMPOUND] == b[schema.COMPOUND]:
                continue
            if rule.name == "NSCB" and set(a[schema.BATCH].split("|")) & set(b[schema.BATCH].split("|")):
                continue
            scored |= a[schema.MOA] == b[schema.MOA]
            if similar[i, j] > best:
                best, neighbour = similar[i, j], b
        out[a[schema.TREATMENT]] = (scored, neighbour and neighbour[schema.MOA])
    return out


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
@pytest.mark.parametrize("shape", [{}, {"n": 25, "compounds": 20, "moas": 9}, {"n": 60, "batches": 2, "d": 2}])
def test_calls_are_those_of_a_naive_double_loop(make_treatments, rule, shape):
    treatments = make_treatments(**shape)
    expected = naive(treatments, rule)
    calls = benchmark.neighbours(treatments, rule)
    found = {r[schema.TREATMENT]: (r["scored"], r["predicted"]) for r in calls.to_dict("records")}
    assert found == expected
    right = sum(
        s and m == t for (s, m), t in zip(map(expected.get, calls[schema.TREATMENT]), calls[schema.MOA], strict=True)
    )
    assert calls["correct"].sum() == right


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_the_list_of_the_nearest_is_that_of_a_naive_loop(make_treatments, rule):
    treatments = make_treatments(n=25, compounds=20, moas=9)
    similar = cosine_similarity(treatments[schema.feature_columns(treatments)].to_numpy())
    rows = treatments.to_dict("records")
    for i in (0, 7, 24):
        batches = set(rows[i][schema.BATCH].split("|"))
        apart = [
            j
            for j, row in enumerate(rows)
            if row[schema.COMPOUND] != rows[i][schema.COMPOUND]
            and (rule.name == "NSC" or not batches & set(row[schema.BATCH].split("|")))
        ]
        expected = sorted(apart, key=lambda j: -similar[i, j])[:5]
        found = benchmark.nearest(treatments, rows[i][schema.TREATMENT], rule, n=5)
        assert found[schema.TREATMENT].tolist() == [rows[j][schema.TREATMENT] for j in expected]
        np.testing.assert_allclose(found["cosine"], similar[i, expected])


def test_a_treatment_without_a_profile_is_named(make_treatments):
    treatments = make_treatments(n=5)
    near = treatments[schema.TREATMENT].iloc[0]
    with pytest.raises(ProfileError, match=f"no profile of '{near}0'; did you mean"):
        benchmark.nearest(treatments, f"{near}0")


def test_nsc_is_scikit_learns_nearest_neighbour_with_the_compound_left_out(make_treatments):
    treatments = make_treatments(n=50)
    features = schema.feature_columns(treatments)
    calls = benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT)
    for compound, own in treatments.groupby(schema.COMPOUND):
        rest = treatments[treatments[schema.COMPOUND] != compound]
        model = KNeighborsClassifier(1, metric="cosine").fit(rest[features].to_numpy(), rest[schema.MOA])
        assert (
            calls.loc[own[schema.TREATMENT], "predicted"].tolist() == model.predict(own[features].to_numpy()).tolist()
        )


def test_a_neighbour_never_shares_what_the_rule_holds_out(make_treatments):
    treatments = make_treatments(n=80, batches=6)
    by_name = treatments.set_index(schema.TREATMENT)
    for rule in RULES:
        calls = benchmark.neighbours(treatments, rule).dropna(subset="neighbour")
        assert len(calls) > 40
        for a, b in zip(calls[schema.TREATMENT], calls["neighbour"], strict=True):
            assert by_name.loc[a, schema.COMPOUND] != by_name.loc[b, schema.COMPOUND]
            if rule is NSCB:
                assert not set(by_name.loc[a, schema.BATCH].split("|")) & set(by_name.loc[b, schema.BATCH].split("|"))


def test_row_order_never_matters_even_with_ties(make_treatments, rng):
    treatments = make_treatments(n=60, d=3)
    features = schema.feature_columns(treatments)
    treatments.loc[30:, features] = treatments.loc[:29, features].to_numpy()  # every profile twice
    for rule in RULES:
        calls = benchmark.neighbours(treatments, rule)
        for _ in range(5):
            shuffled = treatments.sample(frac=1, random_state=rng).reset_index(drop=True)
            pd.testing.assert_frame_equal(benchmark.neighbours(shuffled, rule), calls)


def test_of_tied_neighbours_the_first_by_name_is_taken_and_the_tie_is_said():
    treatments = table(
        ("q@1", "x", "W1", (1, 0)),
        ("c@1", "y", "W2", (2, 2)),
        ("b@1", "x", "W3", (1, 1)),  # the same direction as c: both at 45 degrees
        ("d@1", "y", "W4", (0, 1)),
    )
    call = benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT).loc["q@1"]
    assert (call["neighbour"], call["n_tied"]) == ("b@1", 2)
    assert call["cosine"] == pytest.approx(np.sqrt(0.5))


def test_rounding_does_not_decide_between_parallel_profiles(rng):
    seen = set()
    for _ in range(50):
        v, factor = rng.normal(size=4), rng.uniform(0.1, 10)
        treatments = table(
            ("q@1", "x", "W1", tuple(rng.normal(size=4))),
            ("b@1", "x", "W2", tuple(v)),
            ("c@1", "y", "W3", tuple(factor * v)),
        )
        seen.add(np.sign(np.subtract(*cosine_similarity(treatments.filter(like="z0"))[0, 1:])))
        assert benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT).loc["q@1", "neighbour"] == "b@1"
    assert seen == {-1, 0, 1}  # to the last digit either may be nearer


def test_no_treatment_is_its_own_neighbour_whatever_the_rule(make_treatments):
    calls = benchmark.neighbours(make_treatments(), Rule("1-NN", ()))
    assert (calls[schema.TREATMENT] != calls["neighbour"]).all() and calls["neighbour"].notna().all()


def test_a_profile_of_zeros_is_wrong_and_nobodys_neighbour():
    treatments = table(
        ("a@1", "x", "W1", (0, 0)), ("b@1", "x", "W2", (-1, 0)), ("c@1", "y", "W3", (1, 0)), ("d@1", "y", "W4", (1, 1))
    )
    calls = benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT)
    assert calls["scored"].all()
    assert calls.loc["a@1", "neighbour"] is None and not calls.loc["a@1", "correct"]
    assert "all zeros" in calls.loc["a@1", "reason"]
    assert "a@1" not in calls["neighbour"].tolist()
    zeros = treatments.assign(z000=0.0, z001=0.0)
    assert benchmark.accuracy(benchmark.neighbours(zeros, NSC)) == 0


def test_a_mechanism_of_one_compound_is_not_scored_but_still_a_neighbour():
    treatments = table(
        ("a@1", "x", "W1", (1, 0)),
        ("a@2", "x", "W2", (1, 0.1)),
        ("b@1", "y", "W3", (1, 0.05)),
        ("c@1", "y", "W4", (0, 1)),
    )
    calls = benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT)
    assert calls["scored"].to_dict() == {"a@1": False, "a@2": False, "b@1": True, "c@1": True}
    assert calls.loc["a@1", "reason"] == "no treatment of its mechanism is admissible under NSC"
    assert not calls.loc["b@1", "correct"] and calls.loc["b@1", "predicted"] == "x"


def test_an_unknown_mechanism_is_neither_scored_nor_a_neighbour():
    treatments = table(
        ("a@1", "x", "W1", (1, 0)),
        ("b@1", "unknown", "W2", (1, 0)),
        ("c@1", "x", "W3", (0, 1)),
        ("d@1", "y", "W4", (1, 1)),
    )
    treatments.loc[4] = treatments.loc[1].replace({"b@1": "e@1", "b": "e", "unknown": np.nan})
    calls = benchmark.neighbours(treatments, NSC).set_index(schema.TREATMENT)
    assert calls.loc["a@1", "neighbour"] == "d@1"
    for name in ("b@1", "e@1"):
        assert not calls.loc[name, "scored"] and calls.loc[name, "reason"] == "its mechanism is unknown"
    assert not set(calls["neighbour"]) & {"b@1", "e@1"}


def test_nscb_holds_out_a_treatment_that_shares_any_one_batch():
    treatments = table(
        ("a@1", "x", "W1|W2", (1, 0)),
        ("b@1", "x", "W2|W3", (1, 0)),
        ("c@1", "x", "W3", (0, 1)),
        ("d@1", "y", "W4", (0, -1)),
    )
    calls = benchmark.neighbours(treatments, NSCB).set_index(schema.TREATMENT)
    assert calls.loc["a@1", "neighbour"] == "c@1"
    assert not calls.loc["b@1", "correct"] and not calls.loc["b@1", "scored"]


def test_controls_take_no_part():
    treatments = table(
        ("DMSO@0", "DMSO", "W1", (1, 0)),
        ("a@1", "x", "W1", (1, 0)),
        ("b@1", "x", "W2", (0, 1)),
        ("c@1", "y", "W3", (1, 1)),
    )
    calls = benchmark.neighbours(treatments, NSC)
    assert calls[schema.TREATMENT].tolist() == ["a@1", "b@1", "c@1"]
    assert "DMSO@0" not in calls["neighbour"].tolist()


def test_which_treatments_are_scored_depends_on_the_metadata_alone(make_treatments, rng):
    treatments = make_treatments(batches=3)
    features = schema.feature_columns(treatments)
    other = treatments.copy()
    other[features] = rng.normal(size=(len(other), len(features))) * (rng.random(len(other)) > 0.3)[:, None]
    for rule in RULES:
        a, b = benchmark.neighbours(treatments, rule), benchmark.neighbours(other, rule)
        assert a["scored"].tolist() == b["scored"].tolist()


def test_what_cannot_be_ranked_is_refused(make_treatments):
    treatments = make_treatments()
    with pytest.raises(TableError, match="repeats 1 values of Metadata_Treatment"):
        benchmark.neighbours(pd.concat([treatments, treatments.iloc[:1]]), NSC)
    with pytest.raises(ProfileError, match="at least two treatments beside 'DMSO', not 1"):
        benchmark.neighbours(treatments.iloc[:1], NSC)
    treatments.loc[3, "z000"] = np.nan
    with pytest.raises(ProfileError, match="not finite"):
        benchmark.neighbours(treatments, NSC)


@pytest.fixture(scope="module")
def ljosa(bbbc021: Path) -> pd.DataFrame:
    """Treatment profiles of the published per-well table, by the fixed protocol."""
    tables = bbbc021 / "tables"
    joined = published.join_published(
        pd.read_csv(tables / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"),
        pd.read_csv(tables / "BBBC021_v1_image.csv"),
        pd.read_csv(tables / "BBBC021_v1_moa.csv"),
    )
    return profiles.treatments(profiles.standardise(joined, "DMSO")[0])


@pytest.mark.parametrize(("rule", "n_scored"), [(NSC, 103), (NSCB, 92)], ids=["NSC", "NSCB"])
def test_published_profiles_score_as_a_naive_double_loop_scores_them(ljosa, rule, n_scored):
    calls = benchmark.neighbours(ljosa, rule)
    treated = ljosa[ljosa[schema.COMPOUND] != "DMSO"]
    expected = naive(treated, rule)
    assert calls["scored"].sum() == n_scored == sum(scored for scored, _ in expected.values())
    for row in calls.to_dict("records"):
        assert (row["scored"], row["predicted"]) == expected[row[schema.TREATMENT]]


def test_average_precision_is_copairs(make_treatments):
    from copairs.map import average_precision

    treatments = make_treatments(n=50, compounds=16, moas=4)
    treatments[schema.BATCH] = treatments[schema.BATCH].str.split("|").str[0]  # copairs compares batches by equality
    features = treatments[schema.feature_columns(treatments)].to_numpy()
    for rule in RULES:
        theirs = average_precision(
            treatments[[schema.TREATMENT, schema.MOA, schema.COMPOUND, schema.BATCH]],
            features,
            pos_sameby=[schema.MOA],
            pos_diffby=list(rule.differ_by),
            neg_sameby=[],
            neg_diffby=[schema.MOA, *rule.differ_by],
            progress_bar=False,
        ).set_index(schema.TREATMENT)
        ours = precision.average_precision(treatments, rule).set_index(schema.TREATMENT)
        theirs = theirs.loc[ours.index]
        assert ours["n_pos_pairs"].tolist() == theirs["n_pos_pairs"].tolist()
        found = ours["n_pos_pairs"] > 0
        assert ours["n_total_pairs"][found].tolist() == theirs["n_total_pairs"][found].tolist()
        np.testing.assert_allclose(ours["average_precision"][found], theirs["average_precision"][found], atol=1e-6)


def clustered(rng, noise, compounds=24, moas=6, doses=3, d=8):
    """Treatments around one direction per mechanism, each compound in a batch of its own."""
    centres = rng.normal(size=(moas, d))
    rows = [
        (f"drug{c:02d}@{k}", f"moa{c % moas}", f"W{c}", tuple(centres[c % moas] + noise * rng.normal(size=d)))
        for c in range(compounds)
        for k in range(doses)
    ]
    return table(*rows)


def test_map_is_high_and_significant_where_mechanisms_cluster_and_not_where_they_do_not(rng):
    good = precision.mean_average_precision(clustered(rng, 0.1), NSC)
    assert good["moa"].tolist() == [f"moa{k}" for k in range(6)]
    assert (good["map"] > 0.95).all() and (good["p_corrected"] < 0.01).all()
    bad = precision.mean_average_precision(clustered(rng, 100), NSC)
    assert (bad["map"] < 0.4).all() and (bad["p_corrected"] > 0.01).sum() >= 5


def test_the_map_of_a_mechanism_is_copairs(make_treatments, tmp_path):
    from copairs.map import mean_average_precision

    treatments = make_treatments(n=50, compounds=16, moas=4)
    each = precision.average_precision(treatments, NSC)
    each["normalized_average_precision"] = 0.0
    theirs = mean_average_precision(
        each, [schema.MOA], null_size=100, threshold=0.05, seed=1, progress_bar=False, cache_dir=tmp_path
    )
    ours = precision.mean_average_precision(treatments, NSC, null_size=9)
    np.testing.assert_allclose(ours["map"], theirs["mean_average_precision"], atol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_p_values_are_those_of_relabelling_compounds_and_ranking_anew(make_treatments, rule):
    treatments = make_treatments(n=40, compounds=12, moas=4, batches=5)
    ours = precision.mean_average_precision(treatments, rule, null_size=49, seed=3).set_index("moa")
    null = {moa: [] for moa in ours.index}
    for table in relabelled(treatments, np.random.default_rng(3), 49):
        each = precision.average_precision(table, rule)
        for moa, values in each.dropna().groupby(schema.MOA)["average_precision"]:
            null[moa].append(values.mean())
    for moa, row in ours.iterrows():
        as_good = sum(value >= row["map"] - 1e-12 for value in null[moa])
        assert row["p"] == pytest.approx((1 + as_good) / (1 + len(null[moa])))


def relabelled(treatments, rng, count):
    """Tables with the mechanisms shuffled among compounds, taken in the order of their first treatment by name."""
    ordered = treatments.sort_values(schema.TREATMENT)
    compounds = list(dict.fromkeys(ordered[schema.COMPOUND]))
    moa = ordered.drop_duplicates(schema.COMPOUND).set_index(schema.COMPOUND)[schema.MOA]
    for _ in range(count):
        of = dict(zip(compounds, rng.permutation([moa[c] for c in compounds]), strict=True))
        yield treatments.assign(**{schema.MOA: treatments[schema.COMPOUND].map(of)})


def test_where_mechanisms_mean_nothing_five_in_a_hundred_are_called_significant(rng):
    """Concentrations of a compound look alike, as they do in a screen; a null of single treatments fails here."""
    hits = []
    for trial in range(80):
        centres = rng.normal(size=(24, 8))
        treatments = table(
            *[
                (f"drug{c:02d}@{k}", f"moa{c % 6}", f"W{c}", tuple(centres[c] + 0.4 * rng.normal(size=8)))
                for c in range(24)
                for k in range(4)
            ]
        )
        hits += (precision.mean_average_precision(treatments, NSC, seed=trial, null_size=99)["p"] <= 0.05).tolist()
    assert len(hits) == 480 and 0.025 < np.mean(hits) < 0.08


def test_shuffled_mechanisms_fall_to_chance(rng):
    treatments = clustered(rng, 0.1)
    calls = benchmark.neighbours(treatments, NSC)
    null = benchmark.permutation(treatments, NSC, rng, 300)
    assert benchmark.accuracy(calls) == 1
    assert benchmark.chance(calls) == pytest.approx(9 / 69)  # 3 of 23 other compounds, 3 doses each
    assert null.mean() == pytest.approx(9 / 69, abs=0.02)


def test_permutation_counts_as_relabelling_and_scoring_anew(make_treatments, rng):
    treatments = make_treatments(n=40, compounds=12, moas=4, batches=5)
    null = benchmark.permutation(treatments, NSCB, np.random.default_rng(3), 5)
    # The same shuffles, applied to the table: compounds in order of their first treatment by name.
    ordered = treatments.sort_values(schema.TREATMENT)
    compounds = list(dict.fromkeys(ordered[schema.COMPOUND]))
    moa = ordered.drop_duplicates(schema.COMPOUND).set_index(schema.COMPOUND)[schema.MOA]
    codes = {m: k for k, m in enumerate(sorted(set(moa)))}
    again = np.random.default_rng(3)
    for expected in null:
        shuffled = again.permutation(np.array([codes[moa[c]] for c in compounds]))
        of = {c: f"moa{m}" for c, m in zip(compounds, shuffled, strict=True)}
        relabelled = treatments.assign(**{schema.MOA: treatments[schema.COMPOUND].map(of)})
        assert benchmark.accuracy(benchmark.neighbours(relabelled, NSCB)) == pytest.approx(expected)


def test_chance_is_the_share_of_admissible_neighbours_by_a_loop(make_treatments):
    treatments = make_treatments()
    rows = treatments.to_dict("records")
    shares = []
    for a in rows:
        ok = [
            b
            for b in rows
            if a[schema.COMPOUND] != b[schema.COMPOUND]
            and not set(a[schema.BATCH].split("|")) & set(b[schema.BATCH].split("|"))
        ]
        same = sum(a[schema.MOA] == b[schema.MOA] for b in ok)
        if same:
            shares.append(same / len(ok))
    assert benchmark.chance(benchmark.neighbours(treatments, NSCB)) == pytest.approx(np.mean(shares))


def test_confusion_counts_every_scored_treatment_once():
    treatments = table(
        ("a@1", "x", "W1", (0, 0)), ("b@1", "x", "W2", (-1, 0)), ("c@1", "y", "W3", (1, 0)), ("d@1", "y", "W4", (1, 1))
    )
    counts = benchmark.confusion(benchmark.neighbours(treatments, NSC))
    assert counts.columns.tolist() == ["x", "y", "none"] and counts.index.tolist() == ["x", "y"]
    assert counts.to_numpy().tolist() == [[0, 1, 1], [0, 2, 0]]


def test_batch_score_is_that_of_a_loop(make_cells, rng):
    cells = make_cells(n_plates=6, controls=5, batches=3)
    plate = {p: rng.normal(size=4) for p in cells[schema.PLATE].unique()}
    wells = profiles.wells(cells, rng.normal(size=(len(cells), 4)) + np.stack([plate[p] for p in cells[schema.PLATE]]))
    controls = wells[wells[schema.COMPOUND] == "DMSO"].reset_index(drop=True)
    similar = cosine_similarity(controls[schema.feature_columns(controls)].to_numpy(dtype=float))
    np.fill_diagonal(similar, -2)
    nearest = similar.argmax(axis=1)
    found = {line["by"]: line for line in benchmark.batch_score(wells)}
    for by, column in (("plate", schema.PLATE), ("batch", schema.BATCH)):
        values = controls[column].to_numpy()
        assert found[by]["score"] == pytest.approx((values[nearest] == values).mean())
        pairs = [(a, b) for a in range(len(values)) for b in range(len(values)) if a != b]
        assert found[by]["expected"] == pytest.approx(np.mean([values[a] == values[b] for a, b in pairs]))
        assert found[by]["n_wells"] == 30


def test_nscb_punishes_an_embedding_of_the_batch_and_nsc_does_not(rng):
    """Mechanisms are bound to batches, as in a real collection; the embedding knows the batch and nothing else."""
    rows = []
    for c in range(36):
        moa, batch = c % 6, (c % 6 if c < 30 else (c + 1) % 6)  # one compound of six in another mechanism's batch
        rows.append((f"drug{c:02d}@1", f"moa{moa}", f"W{batch}", tuple(np.eye(6)[batch] + 0.01 * rng.normal(size=6))))
    treatments = table(*rows)
    truth = table(*[(*r[:3], tuple(np.eye(6)[int(r[1][3:])] + 0.01 * rng.normal(size=6))) for r in rows])
    noise = treatments.assign(**{f"z{k:03d}": rng.normal(size=36) for k in range(6)})
    score = {
        (name, rule.name): benchmark.accuracy(benchmark.neighbours(t, rule))
        for name, t in (("batch", treatments), ("truth", truth), ("noise", noise))
        for rule in RULES
    }
    assert score["truth", "NSC"] == score["truth", "NSCB"] == 1
    assert score["batch", "NSC"] > 0.5 > 0.1 >= score["batch", "NSCB"]
    assert score["noise", "NSC"] < score["truth", "NSC"]


def test_evaluate_says_everything_about_a_column(make_cells, rng):
    cells = make_cells(n_plates=4, compounds=8, batches=4)
    wells = profiles.wells(cells, rng.normal(size=(len(cells), 4)))
    found = benchmark.evaluate(
        wells, profiles.treatments(wells), rng, bundle="b", summary="mean", whiten="none", control="DMSO"
    )
    assert [line["rule"] for line in found["scores"]] == ["NSC", "NSCB"]
    assert {"bundle", "summary", "whiten", "accuracy", "ci95", "n_scored", "n_treatments"} <= set(found["scores"][0])
    assert len(found["calls"]) == 16 and found["calls"]["rule"].tolist() == ["NSC"] * 8 + ["NSCB"] * 8
    assert sum(map(sum, found["confusion"][0]["counts"])) == found["scores"][0]["n_scored"] == 8
    assert found["scores"][1]["accuracy"] is None and found["scores"][1]["n_scored"] == 0  # every batch in common
    assert {line["by"] for line in found["batch"]} == {"plate", "batch"}
