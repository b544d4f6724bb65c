"""The search for parameters: its folds see nothing they should not, and it goes on where it was broken off."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxml.config import parse_config
from cxml.errors import ConfigError, DataError
from cxml.journeys.read import read_journeys
from cxml.models.churn import ChurnModel
from cxml.models.satisfaction import SatisfactionModel
from cxml.progress import Silent
from cxml.training import tune as module
from cxml.training.learn import config_digest, train
from cxml.training.studies import churn_split
from cxml.training.tune import SPACE, Tuned, loss_on, make_folds, tune, with_tuned

optuna = pytest.importorskip("optuna")
START = pd.Timestamp("2023-01-01", tz="UTC")
PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 15d, lookback: 90d}
features: {windows: [30d, 90d]}
churn: {kind: event, touchpoints: [cancelled], horizons: [15d, 30d]}
"""
NPS = "satisfaction: {kind: nps, touchpoint: answer}\n"


def journeys(n=150, days=420, seed=0):
    """Logins that get rarer before someone cancels, complaints that foretell it, and a survey now and then."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n):
        leaves = int(rng.integers(60, 1.6 * days)) if customer % 2 else 10 * days
        for day in np.cumsum(rng.integers(3, 18, size=days // 3)):
            if day < min(leaves, days):
                worry = rng.random() < (0.5 if leaves - day < 45 else 0.05)
                rows.append((customer, int(day), "complaint" if worry else "login", np.nan))
                if rng.random() < 0.15:
                    rows.append((customer, int(day), "answer", float(rng.integers(0, 5) + 5 * (not worry))))
        if leaves < days:
            rows.append((customer, leaves, "cancelled", np.nan))
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint", "score"])
    frame["timestamp"] = START + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.sort_values(["customer_id", "timestamp"], kind="stable", ignore_index=True)


@pytest.fixture(scope="module")
def log():
    return read_journeys(journeys(), timezone="UTC")


@pytest.fixture(scope="module")
def config():
    return parse_config(PROJECT)


@pytest.fixture
def judged(monkeypatch):
    """Let a formula stand in for the fits: (fold, parameters) -> loss; returns the list of calls."""
    calls = []

    def install(formula):
        def stand_in(fold, config):
            parameters = {} if config.churn.parameters is None else config.churn.parameters.given()
            calls.append((fold.study.split.test_start, parameters))
            return formula(len(calls), parameters)

        monkeypatch.setattr(module, "loss_on", stand_in)
        return calls

    return install


def bowl(_call, parameters):
    """Least where the learning rate is 0.1 and trees have 30 leaves; 1 for the parameters as they are."""
    if not parameters:
        return 1.0
    return abs(np.log(parameters["learning_rate"] / 0.1)) + abs(np.log(parameters["num_leaves"] / 30))


def essence(tuned: Tuned):
    return [(t.number, t.parameters, t.losses, t.state) for t in tuned.trials]


# ---------------------------------------------------------------- folds


def test_folds_lie_one_behind_the_other_before_the_test(log, config):
    folds = make_folds(log, config, "churn")
    assert len(folds) >= 2
    ends = [fold.study.split.observed_until for fold in folds]
    assert ends[-1] == churn_split(log, config, config.churn)[1].test_start
    assert [fold.study.split.test_start for fold in folds[1:]] == ends[:-1]
    for fold in folds:
        train, calibration, test = (fold.study.parts[part] for part in ("train", "calibration", "test"))
        split = fold.study.split
        assert train.cutoff.max() < split.calibration_start <= calibration.cutoff.min()
        assert calibration.cutoff.max() < split.test_start <= test.cutoff.min()
        assert test.cutoff.max() < split.observed_until
        assert train.X.shape[1] == len(fold.plan.columns)


@pytest.mark.parametrize("target", ["churn", "satisfaction"])
def test_nothing_at_or_after_the_test_changes_a_fold(target):
    config = parse_config(PROJECT + NPS + "random_state: 1\n").model_copy()
    frame = journeys()
    log = read_journeys(frame, timezone="UTC")
    folds = make_folds(log, config, target)
    assert folds
    until = pd.Timestamp(folds[-1].study.split.observed_until, unit="us", tz="UTC")
    late = (frame["timestamp"] >= until) & (frame["timestamp"] < frame["timestamp"].max())
    if target == "satisfaction":  # where the split lies is decided by when surveys are, so these stay
        late &= frame["touchpoint"] != "answer"
    assert late.sum() > 100
    changed = frame[~(late & (frame.index % 2 == 0))].copy()
    changed.loc[late, "touchpoint"] = "cancelled" if target == "churn" else "complaint"
    others = make_folds(read_journeys(changed, timezone="UTC"), config, target)
    assert len(folds) == len(others)
    for one, other in zip(folds, others, strict=True):
        assert one.plan.columns == other.plan.columns
        for part, rows in one.study.parts.items():
            assert np.array_equal(rows.cutoff, other.study.parts[part].cutoff)
            assert rows.X.tobytes() == other.study.parts[part].X.tobytes()
            assert rows.y.tobytes() == other.study.parts[part].y.tobytes()


def test_features_of_a_fold_are_chosen_from_its_own_past(config):
    frame = journeys()
    log = read_journeys(frame, timezone="UTC")
    earliest, latest = make_folds(log, config, "churn")[0], make_folds(log, config, "churn")[-1]
    between = pd.Timestamp(earliest.study.split.calibration_start, unit="us", tz="UTC")
    assert earliest.study.split.calibration_start < latest.study.split.calibration_start
    frame.loc[(frame["timestamp"] >= between) & (frame.index % 3 == 0) & (frame["touchpoint"] == "login"),
              "touchpoint"] = "novelty"  # fmt: skip
    folds = make_folds(read_journeys(frame, timezone="UTC"), config, "churn")
    assert "count__touchpoint=novelty__30d" not in folds[0].plan.columns
    assert "count__touchpoint=novelty__30d" in folds[-1].plan.columns


def test_a_log_too_short_for_a_fold_is_refused_with_the_mend(config):
    log = read_journeys(journeys(n=400, days=130), timezone="UTC")
    with pytest.raises(DataError, match=r"churn: what comes before the test part .* Train without --tune"):
        tune(log, config, 3)


def test_a_target_without_a_fold_does_not_stop_the_other(judged):
    config = parse_config(PROJECT + NPS)
    frame = journeys()
    answers = frame[frame["touchpoint"] == "answer"]
    few = frame[(frame["touchpoint"] != "answer") | frame.index.isin(answers.index[:40])]
    judged(bowl)
    said = []

    class Listener(Silent):
        def say(self, what):
            said.append(what)

    tuned = tune(read_journeys(few, timezone="UTC"), config, 2, None, Listener())
    assert list(tuned) == ["churn"]
    assert any(line.startswith("not tuned: satisfaction: ") for line in said)


# ---------------------------------------------------------------- the search


def test_the_parameters_as_they_are_come_first_and_yield_only_to_better(log, config, judged):
    judged(lambda _call, parameters: 1.0 if parameters else 0.5)
    found = tune(log, config, 4)["churn"]
    assert found.trials[0].parameters == {}
    assert found.best.number == 0
    assert with_tuned(config, {"churn": found}) == config
    assert "nothing better" in found.line()


def test_trial_0_is_what_training_would_do(log, config):
    found = tune(log, config, 1)["churn"]
    folds = make_folds(log, config, "churn")
    assert found.trials[0].losses == tuple(loss_on(fold, config) for fold in folds)
    defaults = ChurnModel().get_params()
    written = with_tuned(config, {"churn": found}).model_copy(update={"churn": config.churn.model_copy(
        update={"parameters": module.ParametersConfig(learning_rate=defaults["learning_rate"])})})  # fmt: skip
    assert loss_on(folds[0], written) == found.trials[0].losses[0]
    other = parse_config(PROJECT.replace("30d]}", "30d], parameters: {num_leaves: 2, n_estimators: 3}}"))
    assert loss_on(folds[0], other) != found.trials[0].losses[0]


def test_a_search_begins_where_training_stands(log, tmp_path):
    """The sampler learns from trial 0 as well, so that it must be remembered at the parameters that made it."""
    tune(log, parse_config(PROJECT + NPS), 1, storage=tmp_path / "trials.db")
    storage, began = f"sqlite:///{tmp_path / 'trials.db'}", {}
    for name in optuna.get_all_study_names(storage):
        target = "satisfaction" if "satisfaction" in name else "churn"
        began[target] = optuna.load_study(study_name=name, storage=storage).trials[0].params
    for target, estimator in (("churn", ChurnModel()), ("satisfaction", SatisfactionModel())):
        stands = estimator.get_params()
        for name in ("learning_rate", "num_leaves", "subsample", "colsample_bytree", "reg_lambda"):
            assert began[target][name] == stands[name], (target, name)


def test_the_search_finds_the_bottom_of_a_bowl(log, config, judged):
    judged(bowl)
    found = tune(log, config, 60)["churn"]
    assert found.best.loss < 0.5
    by_chance = [t.loss for t in found.trials[1:10]]
    later = [t.loss for t in found.trials[40:]]
    assert np.mean(later) < 0.7 * np.mean(by_chance)
    for trial in found.trials[1:]:
        assert set(trial.parameters) == set(SPACE)
        assert all(SPACE[name][0] <= value <= SPACE[name][1] for name, value in trial.parameters.items())


def test_a_fresh_search_is_the_same_every_time_and_another_seed_another(log, config, judged):
    judged(bowl)
    first, again = (tune(log, config, 14)["churn"] for _ in range(2))
    assert essence(first) == essence(again)
    other = tune(log, config.model_copy(update={"random_state": 5}), 14)["churn"]
    assert essence(other)[1:] != essence(first)[1:]


def test_worse_than_the_median_is_cut_short_and_never_chosen(log, config, monkeypatch):
    """The first fold is so easy that who is cut short after it has the least loss of all."""
    ends = [fold.study.split.observed_until for fold in make_folds(log, config, "churn")]

    def formula(fold, config):
        parameters = config.churn.parameters
        poor = parameters is not None and parameters.num_leaves >= 30
        return 0.1 * (1 + poor) if fold.study.split.observed_until == ends[0] else 5.0

    monkeypatch.setattr(module, "loss_on", formula)
    found = tune(log, config, 25)["churn"]
    pruned = [t for t in found.trials if t.state == "pruned"]
    assert pruned
    assert all(t.losses == (0.2,) for t in pruned)
    assert all(len(t.losses) == len(ends) for t in found.trials if t.state == "complete")
    assert min(t.number for t in pruned) >= module.TRIALS_TO_COMPARE
    assert found.best.number == 0
    assert found.to_dict()["pruned"] == len(pruned)


def test_what_lightgbm_refuses_counts_as_a_trial_and_is_not_chosen(log, config, judged):
    def formula(_call, parameters):
        if parameters.get("max_depth", 0) > 6:
            raise DataError("none of the columns varies")
        return bowl(_call, parameters) + 1.0

    judged(formula)
    found = tune(log, config, 12)["churn"]
    states = [t.state for t in found.trials]
    assert len(states) == 12
    assert states[0] == "complete"
    assert "refused" in states
    assert found.best.state == "complete"


def test_a_refusal_of_the_parameters_as_they_are_is_told(log, config, judged):
    def formula(_call, _parameters):
        raise DataError("none of the columns varies")

    judged(formula)
    with pytest.raises(DataError, match="none of the columns varies"):
        tune(log, config, 3)


# ---------------------------------------------------------------- broken off and gone on with


def test_broken_off_anywhere_it_comes_to_the_same_end(log, config, judged, tmp_path):
    calls = judged(bowl)
    whole = tune(log, config, 16, storage=tmp_path / "whole.db")["churn"]
    n_folds = len(whole.folds)
    for at in (1, 2, 3 * n_folds, len(calls) - 1):

        def breaks(call, parameters, at=at):
            if call == at:
                raise KeyboardInterrupt
            return bowl(call, parameters)

        file = tmp_path / f"{at}.db"
        calls = judged(breaks)
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            tune(log, config, 16, storage=file)
        calls.clear()
        judged(bowl)
        assert essence(tune(log, config, 16, storage=file)["churn"]) == essence(whole)
        assert len(calls) < 16 * n_folds or at <= n_folds


def test_fewer_trials_than_are_remembered_give_what_a_fresh_search_gives(log, config, judged, tmp_path):
    calls = judged(bowl)
    tune(log, config, 12, storage=tmp_path / "trials.db")
    calls.clear()
    few = tune(log, config, 5, storage=tmp_path / "trials.db")["churn"]
    assert not calls
    assert essence(few) == essence(tune(log, config, 5)["churn"])


def test_other_data_or_another_config_are_another_search(log, config, judged, tmp_path):
    calls = judged(bowl)
    file = tmp_path / "trials.db"
    n = len(tune(log, config, 2, storage=file)["churn"].folds)
    calls.clear()
    other = config.model_copy(update={"features": config.features.model_copy(update={"max_values": 5})})
    tune(log, other, 2, storage=file)
    assert len(calls) == 2 * n
    calls.clear()
    tune(read_journeys(journeys(seed=1), timezone="UTC"), config, 2, storage=file)
    assert calls
    calls.clear()
    tune(log, config, 2, storage=file)
    assert not calls
    names = optuna.get_all_study_names(f"sqlite:///{file}")
    assert len(names) == 3
    assert sum(log.digest[:16] in name for name in names) == 2
    assert sum(config_digest(config)[:16] in name for name in names) == 2


def test_a_search_is_known_by_the_features_and_the_outcomes_of_its_folds(log, config):
    fold = make_folds(log, config, "churn")[0]
    names = {module._name(log, config, [fold])}
    for changed in ("X", "y"):
        rows = fold.study.parts["train"]
        other = getattr(rows, changed).copy()
        other[0, 0] += 1.0
        parts = fold.study.parts | {"train": replace(rows, **{changed: other})}
        names.add(module._name(log, config, [replace(fold, study=replace(fold.study, parts=parts))]))
    assert len(names) == 3


def test_a_file_that_is_no_storage_is_refused_with_the_mend(log, config, tmp_path):
    (tmp_path / "trials.db").write_text("this is no database, " * 100)
    with pytest.raises(ConfigError, match=r"trials\.db'.* Move the file away"):
        tune(log, config, 2, storage=tmp_path / "trials.db")


def test_without_optuna_the_extra_is_named(log, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"'optuna', which is not installed.*cxml\[tune\]"):
        tune(log, config, 2)


def test_no_trials_at_all_are_wrong_usage(log, config):
    with pytest.raises(ConfigError, match="1 or more"):
        tune(log, config, 0)


# ---------------------------------------------------------------- what is found is used


def test_what_was_found_joins_what_the_file_says(log, judged):
    config = parse_config(PROJECT.replace("30d]}", "30d], parameters: {learning_rate: 0.2, n_estimators: 40}}"))
    seen = judged(lambda _call, parameters: bowl(_call, {"num_leaves": 4, **parameters}))
    found = tune(log, config, 6)["churn"]
    assert seen[0][1] == {"learning_rate": 0.2, "n_estimators": 40}
    assert found.best.number > 0
    given = with_tuned(config, {"churn": found}).churn.parameters.given()
    assert given == {"n_estimators": 40, **found.best.parameters}


def test_training_with_what_was_found_is_training_with_it_written_down(log, config):
    found = tune(log, config, 7)
    assert found["churn"].best.loss <= found["churn"].trials[0].loss
    tuned = train(log, with_tuned(config, found), replicates=2, tuning={"churn": found["churn"].to_dict()})
    parameters = found["churn"].to_dict()["parameters"]
    flow = ", ".join(f"{name}: {value}" for name, value in {"subsample": 0.7, **parameters}.items())
    written = train(log, parse_config(PROJECT.replace("30d]}", f"30d], parameters: {{{flow}}}}}")), replicates=2)
    plain = train(log, config, replicates=2)
    if parameters:
        assert tuned.model.targets["churn"].trees.text == written.model.targets["churn"].trees.text
        assert tuned.model.metadata["parameters"]["churn"] == parameters
    assert tuned.model.metadata["tuning"]["churn"]["trials"] == 7
    assert "tuning" not in written.model.metadata
    assert not {"parameters", "tuning"} & set(plain.model.metadata)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("learning_rat: 0.1", "churn.parameters.learning_rat: unknown key; did you mean 'learning_rate'"),
        ("learning_rate: 2", "churn.parameters.learning_rate: "),
        ("num_leaves: 1", "churn.parameters.num_leaves: "),
        ("num_leaves: 2.5", "churn.parameters.num_leaves: "),
        ("subsample: true", "churn.parameters.subsample: "),
    ],
)
def test_parameters_of_the_project_file_are_checked(written, says):
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        parse_config(PROJECT.replace("30d]}", f"30d], parameters: {{{written}}}}}"))
