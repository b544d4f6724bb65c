import sys

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.evaluate import plots
from cxml.evaluate.bootstrap import Interval

HORIZONS = ["30d", "60d", "90d"]


@pytest.fixture(scope="module")
def churn():
    rng = np.random.default_rng(0)
    risk = rng.beta(1, 4, 800)
    p = np.column_stack([risk * share for share in (0.5, 0.8, 1.0)])
    known = (rng.random((800, 1)) < p).astype(float)
    known[::7, 2] = np.nan
    return known, p


@pytest.fixture(scope="module")
def survey():
    rng = np.random.default_rng(1)
    probability = rng.dirichlet(np.arange(1, 12), 300)
    scores = np.array([rng.choice(11, p=q) for q in probability], dtype=float)
    scores[:20] = np.nan
    return scores, probability


def title(figure):
    return figure.get_suptitle().replace("\n", " ")


def test_all_plots_are_written_as_png_and_twice_the_same(churn, survey, tmp_path):
    figures = plots.churn_plots(*churn, HORIZONS) | plots.score_plots(*survey)
    paths = plots.save_plots(tmp_path / "new" / "plots", figures)
    again = plots.save_plots(tmp_path / "again", plots.churn_plots(*churn, HORIZONS) | plots.score_plots(*survey))
    assert [p.stem for p in paths] == list(figures)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths)
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]


def test_drawing_leaves_pyplot_alone(churn):
    before = "matplotlib.pyplot" in sys.modules
    plots.plot_reliability(*churn, HORIZONS)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_titles_state_the_figures_they_show():
    p = np.linspace(0.9, 0.1, 100)[:, None]
    known = np.r_[np.ones(20), np.zeros(80)][:, None]
    assert title(plots.plot_gain(known, p, ["30d"])) == "The riskiest tenth of customers holds 50 % of the 30d churn"
    by_horizon = plots.plot_churn_by_horizon(known, p, ["30d"])
    assert title(by_horizon) == "30d churn was 100 % in the riskiest fifth of customers, 0 % in the safest"
    scores = plots.plot_score_distribution([3, 5], np.eye(5)[[3, 3]], lo=1)
    assert title(scores) == "The mean score was 4.00 and was predicted to be 4.00"


def test_the_reliability_plot_shows_what_happened_in_each_tenth(churn):
    known, p = churn
    panel = plots.plot_reliability(known, p, HORIZONS).axes[0]
    said, seen = next(line.get_data() for line in panel.lines if line.get_marker() == "o")
    assert len(said) == 10
    assert np.mean(said) == pytest.approx(p[:, 0].mean())
    assert np.mean(seen) == pytest.approx(known[:, 0].mean())


def test_the_gain_curve_starts_at_nobody_and_ends_with_everybody(churn):
    panel = plots.plot_gain(*churn, HORIZONS).axes[0]
    for line in panel.lines[1:]:
        x, y = line.get_data()
        assert (y[0], y[-1]) == (0, pytest.approx(1))
        assert (np.diff(y) >= 0).all()
        assert (y >= x - 0.05).all()


def test_importance_shows_the_first_features_in_order():
    figure = plots.plot_importance([f"feature {k}" for k in range(40)], np.arange(40.0))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [f"feature {k}" for k in range(39, 14, -1)]


@pytest.mark.parametrize("known", [np.zeros((50, 2)), np.ones((50, 2)), np.full((50, 2), [0, np.nan])])
def test_one_class_and_unknown_horizons_can_be_drawn(known, tmp_path):
    for predicted in (np.full((50, 2), 0.3), np.linspace([0, 0.1], [0.5, 1], 50)):
        paths = plots.save_plots(tmp_path, plots.churn_plots(known, predicted, ["30d", "60d"]), dpi=40)
        assert len(paths) == 4


def test_one_answer_can_be_drawn(tmp_path):
    assert plots.save_plots(tmp_path, plots.score_plots([7], np.eye(11)[[7]]), dpi=40)


def test_a_model_of_no_importance_can_be_drawn(tmp_path):
    assert plots.save_plots(tmp_path, {"importance": plots.plot_importance(["a", "b"], [0, 0])}, dpi=40)


def fold_panel(**by_who):
    return plots.FoldPanel("churn: log_loss_30d", ["2024-01-01", "2024-04-01"], by_who)


def test_the_fold_plot_counts_the_tests_that_were_won():
    low, high, none = Interval(0.1, 0.05, 0.2), Interval(0.3, 0.2, 0.4), None
    figure = plots.plot_folds([fold_panel(cxml=[low, low], rule=[high, low]), fold_panel(cxml=[low, none])], "cxml")
    assert title(figure) == "The model is better than every baseline in 2 of 3 tests"
    ours = figure.axes[0].lines[0]
    assert ours.get_ydata().tolist() == [0.1, 0.1]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2024-01-01", "2024-04-01"]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_one_plot_is_written_in_the_format_of_its_name_and_twice_the_same(tmp_path, ending):
    panel = fold_panel(cxml=[Interval(0.1, 0.05, 0.2)] * 2)
    paths = [plots.save_plot(tmp_path / f"{k}.{ending}", plots.plot_folds([panel], "cxml"), dpi=40) for k in "ab"]
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert paths[0].read_bytes().startswith(begins)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_picture_in_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.png, \.svg or \.pdf"):
        plots.save_plot(tmp_path / "folds.jpeg", plots.plot_folds([fold_panel(cxml=[None, None])], "cxml"))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plots.plot_folds([], "cxml"), "no fold to draw"),
        (lambda: plots.plot_gain(np.full((3, 1), np.nan), np.ones((3, 1)), ["30d"]), "nothing to draw"),
        (lambda: plots.plot_gain(np.ones((3, 1)), np.ones((3, 2)), ["30d"]), "with 1 horizons both must be"),
        (lambda: plots.plot_score_distribution([np.nan], np.eye(11)[[0]]), "nothing to draw"),
        (lambda: plots.plot_importance(["a"], [1.0, 2.0]), "one value a name"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, says):
    with pytest.raises(DataError, match=says):
        call()
