"""Features that cheat, one way each: the check must catch every one and name its column."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cxml.errors import ConfigError
from cxml.features import annotate as annotating
from cxml.features import custom
from cxml.features.annotations import AnnotationSettings
from cxml.features.kernel import ALWAYS
from cxml.features.leakage import check_leakage
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import Coded, CustomerTable, slice_block
from cxml.journeys.read import read_journeys
from cxml.times import DAY_US, parse_instant

CUSTOMERS = [f"c{i:02d}" for i in range(30)]
CUTOFFS = pd.to_datetime(["2024-02-01", "2024-03-01"], utc=True)
SNAPSHOTS = pd.DataFrame(
    [(customer, cutoff) for cutoff in CUTOFFS for customer in CUSTOMERS], columns=["customer_id", "cutoff"]
)
SETTINGS = AnnotationSettings(
    contacts=("call", "chat"), activity=("buy",), interventions=("offer",), surveys=("answer",),
    self_service=("web",), repeat_within="7d", respond_within="7d", scale=(0, 10),
)  # fmt: skip
NAMES = (
    "count__all__30d", "ever__all", "days_since__all", "count__touchpoint=call&!channel=web__30d",
    "sum__value__30d", "ratio__all__7d/30d", "share__touchpoint=call__30d", "mean__score__30d", "mean__duration__30d",
    "mean__resolved__30d", "count__value<0__30d", "distinct__case_id__30d", "mean__gap__30d", "last__open_cases__90d",
    "mean__repeat_contact__30d", "mean__first_contact_resolved__30d", "mean__response__30d", "mean__reaction__30d",
    "entropy__previous__30d",
)  # fmt: skip
PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, NAMES)),
    {
        "touchpoint": ("answer", "buy", "call", "chat", "offer"), "channel": ("phone", "web"), "case_id": ("k1",),
        "previous": ("buy", "call"), "plan": ("flat", "free"),
    },
    customer_attributes=("plan",),
    annotations=SETTINGS,
)  # fmt: skip


@cache
def journeys(late, n_rows_for=30, late_from=0):
    rng = np.random.default_rng(0)
    n = 1500
    hours = rng.integers(0, 90 * 24, n)
    stamps = pd.Timestamp("2024-01-01 00:17") + pd.to_timedelta(hours, unit="h")  # no wait ends at a cutoff by chance
    events = pd.DataFrame(
        {
            "customer_id": rng.choice(CUSTOMERS, n),
            "timestamp": stamps,
            "touchpoint": np.where(
                hours < 80 * 24, rng.choice(["answer", "buy", "call", "chat", "offer"], n), "refund"
            ),
            "channel": rng.choice(["phone", "web"], n),
            "value": rng.normal(size=n).round(2),
            "duration": rng.integers(1, 900, n).astype(float),
            "score": rng.integers(0, 11, n).astype(float),
            "case_id": [f"k{c}" if c < 4 else None for c in rng.integers(0, 8, n)],
            "resolved": rng.choice([True, False], n),
        }
    )
    if late:
        lateness = np.where(hours >= late_from * 24, rng.integers(0, 10, n), 0)
        events["available_at"] = stamps + pd.to_timedelta(lateness, unit="D")
    dates = np.sort(rng.integers(0, 90, (n_rows_for, 3))) * DAY_US + parse_instant("2024-01-01")
    codes = rng.integers(0, 2, 3 * n_rows_for).astype(np.int32)
    table = CustomerTable(
        np.repeat(np.array(CUSTOMERS[:n_rows_for], dtype=object), 3),
        dates.ravel(),
        {"plan": Coded(codes, ("flat", "free"))},
    )
    return read_journeys(events, timezone="UTC", customers=table)


@pytest.fixture(params=[False, True], ids=["as it happens", "late"])
def log(request):
    return journeys(late=request.param)


def blocks_of(*blocks, customers=None):
    """What the check reads of a log."""
    return SimpleNamespace(blocks=lambda: iter(blocks), customers=customers)


def caught(log, fill, plan=PLAN, snapshots=SNAPSHOTS, **options):
    return check_leakage(log, plan, snapshots, fill=fill, **options).columns


def in_column(name, rows_of):
    """Make a fill that is honest but in one column; there it gives one number for each customer and cutoff."""

    def fill(plan, block, row_starts, cutoffs, customers=None):
        rows = fill_matrix(plan, block, row_starts, cutoffs, customers)
        owner = np.repeat(np.arange(block.n_customers), np.diff(row_starts))
        for row, (i, cutoff) in enumerate(zip(owner.tolist(), cutoffs.tolist(), strict=True)):
            rows[row, plan.columns.index(name)] = rows_of(slice_block(block, i, i + 1), cutoff, block)
        return rows

    return fill


def n_customers(journey, cutoff, block):
    return block.n_customers


def known_of(block):
    return block.time if block.known is None else block.known


def test_the_honest_kernel_passes(log):
    assert caught(log, fill_matrix) == ()


# ---------------------------------------------------------------- annotations


@pytest.mark.parametrize("name", ["first_contact_resolved", "response", "reaction"])
def test_an_outcome_of_the_whole_journey_taken_without_waiting(log, name):
    def fill(plan, block, row_starts, cutoffs, customers=None):
        outcome = annotating.annotate(block, [name], SETTINGS).measures[name]
        return fill_matrix(
            plan, replace(block, measures=block.measures | {name: outcome}), row_starts, cutoffs, customers
        )

    assert caught(log, fill) == (f"mean__{name}__30d",)


@pytest.mark.parametrize("unanswered", [False, True])
def test_outcomes_taken_at_the_very_moment_they_are_due(log, unanswered, monkeypatch):
    """All of them, or only those for which nothing came until the wait was over."""
    honest = annotating.annotate

    def hasty(block, wanted, settings):
        found = honest(block, wanted, settings)
        over = block.time + settings.repeat_within_us
        due = {name: np.where((due == over) | (not unanswered), due - 1, due) for name, due in found.due.items()}
        return replace(found, due=due)

    monkeypatch.setattr(annotating, "annotate", hasty)
    assert set(caught(log, fill_matrix)) == {
        f"mean__{name}__30d" for name in ("first_contact_resolved", "response", "reaction")
    }


def test_outcomes_revised_before_the_follower_is_known(monkeypatch):
    """At the very moment at which it becomes known, or as soon as the value is due."""
    log, honest = journeys(late=True), annotating.annotate
    for at_once in (False, True):

        def hasty(block, wanted, settings, at_once=at_once):
            found = honest(block, wanted, settings)
            sooner = found.due if at_once else {name: moments - 1 for name, moments in found.revised.items()}
            revised = {n: np.where(moments < ALWAYS, sooner[n], ALWAYS) for n, moments in found.revised.items()}
            return replace(found, revised=revised)

        monkeypatch.setattr(annotating, "annotate", hasty)
        assert set(caught(log, fill_matrix)) == {
            f"mean__{name}__30d" for name in ("first_contact_resolved", "response", "reaction")
        }


def test_an_annotation_that_looks_at_the_next_event(log):
    def fill(plan, block, row_starts, cutoffs, customers=None):
        gap = np.append(np.diff(block.time), 0) / DAY_US
        return fill_matrix(plan, replace(block, measures=block.measures | {"gap": gap}), row_starts, cutoffs, customers)

    assert caught(log, fill) == ("mean__gap__30d",)


def test_an_annotation_scaled_by_all_durations_of_the_log(log):
    def fill(plan, block, row_starts, cutoffs, customers=None):
        scaled = block.measures["duration"] / np.nanmean(block.measures["duration"])
        return fill_matrix(
            plan, replace(block, measures=block.measures | {"duration": scaled}), row_starts, cutoffs, customers
        )

    assert caught(log, fill) == ("mean__duration__30d",)


def test_the_size_of_a_vocabulary_that_later_values_are_in(log):
    def size(journey, cutoff, block):
        return len(block.categories["touchpoint"].vocabulary)

    assert caught(log, in_column("ever__all", size)) == ("ever__all",)


def test_a_word_that_is_in_the_vocabulary_because_it_will_come(log):
    def refunds(journey, cutoff, block):
        return "refund" in block.categories["touchpoint"].vocabulary

    assert caught(log, in_column("ever__all", refunds)) == ("ever__all",)


def test_the_raw_code_of_a_value(log):
    """Codes follow the order of all values of the log; a value that comes later moves them."""

    def code(journey, cutoff, block):
        past = (journey.time < cutoff) & (known_of(journey) < cutoff)
        return journey.categories["case_id"].codes[past][-1] if past.any() else -1

    assert caught(log, in_column("ever__all", code)) == ("ever__all",)


# ---------------------------------------------------------------- time and knowledge


@pytest.mark.parametrize("name", NAMES)
def test_events_at_the_cutoff_in_one_column(log, name):
    def fill(plan, block, row_starts, cutoffs, customers=None):
        rows = fill_matrix(plan, block, row_starts, cutoffs, customers)
        at = plan.columns.index(name)
        rows[:, at] = fill_matrix(plan, block, row_starts, cutoffs + 1, customers)[:, at]
        return rows

    assert caught(log, fill) == (name,)


def test_time_asked_but_not_knowledge():
    def count(journey, cutoff, block):
        return (journey.time < cutoff).sum()

    assert caught(journeys(late=True), in_column("ever__all", count)) == ("ever__all",)


def test_knowledge_asked_but_not_time():
    """What is announced has not happened yet."""

    def count(journey, cutoff, block):
        return (known_of(journey) < cutoff).sum()

    assert caught(journeys(late=True), in_column("ever__all", count)) == ("ever__all",)


def test_knowledge_at_the_very_cutoff():
    def count(journey, cutoff, block):
        return ((journey.time < cutoff) & (known_of(journey) <= cutoff)).sum()

    assert caught(journeys(late=True), in_column("ever__all", count)) == ("ever__all",)


def test_whether_anything_was_late_at_all():
    """So far everything was known at once."""

    def late(journey, cutoff, block):
        return block.known is not None

    assert caught(journeys(late=True, late_from=70), in_column("ever__all", late)) == ("ever__all",)


@pytest.mark.parametrize("column", ["case_id", "channel", "resolved", "duration", "score", "value"])
def test_one_column_of_later_events(log, column):
    """Each of the three tamperings must show it, the shuffling too, which keeps as many events."""

    def later(journey, cutoff, block):
        past = (journey.time < cutoff) & (known_of(journey) < cutoff)
        if column == "case_id":
            cases = journey.categories[column].codes
            return np.isin(cases[~past], cases[past]).sum()
        if column == "channel":
            return (journey.categories[column].codes[~past] == 0).sum()
        return np.nansum(journey.measures[column][~past])

    report = check_leakage(log, PLAN, SNAPSHOTS, fill=in_column("ever__all", later))
    assert report.columns == ("ever__all",)
    assert {leak.tampering for leak in report.leaks} == {"deleted", "shuffled", "added"}


# ---------------------------------------------------------------- customers


def test_the_customer_table_as_of_the_end(log):
    def fill(plan, block, row_starts, cutoffs, customers=None):
        timeless = replace(customers, valid_from=np.zeros_like(customers.valid_from))
        return fill_matrix(plan, block, row_starts, cutoffs, timeless)

    assert caught(log, fill) == ("last__plan",)


def test_the_first_row_of_customers_who_had_none():
    """Only who is not yet in the table is taken as of the end."""
    log = journeys(late=False, n_rows_for=20)

    def fill(plan, block, row_starts, cutoffs, customers=None):
        rows = fill_matrix(plan, block, row_starts, cutoffs, customers)
        new = ~np.isin(np.repeat(block.customers, np.diff(row_starts)), CUSTOMERS[:20])
        timeless = replace(customers, valid_from=np.zeros_like(customers.valid_from))
        rows[new, -1] = fill_matrix(plan, block, row_starts, cutoffs, timeless)[new, -1]
        return rows

    assert caught(log, fill) == ("last__plan",)


def test_a_value_of_customers_not_yet_known():
    """Training asks nobody before the first event, but services will; the check asks everybody at every cutoff."""
    log = journeys(late=False)
    cutoff = parse_instant("2024-01-02")
    first = log.block.time[log.block.starts[:-1]]
    new = [customer for customer, t in zip(CUSTOMERS, first.tolist(), strict=True) if t >= cutoff]
    known = SNAPSHOTS.assign(cutoff=pd.to_datetime(cutoff, unit="us", utc=True)).query("customer_id not in @new")
    snapshots = pd.concat([known, SNAPSHOTS])
    assert new

    def fill(journey, cutoff, block):
        return 0 if len(journey.time) and journey.time[0] < cutoff else len(journey.time)

    assert caught(log, in_column("ever__all", fill), snapshots=snapshots) == ("ever__all",)


def test_the_number_of_customers_that_will_have_come(log):
    assert caught(log, in_column("ever__all", n_customers)) == ("ever__all",)


# ---------------------------------------------------------------- user features


def test_a_user_feature_that_remembers_other_cutoffs_is_told_from_one_that_does_not(log, monkeypatch):
    monkeypatch.setattr(custom, "_REGISTERED", {})
    longest = 0

    @custom.feature("longest_so_far", "Most events any customer has had.")
    def remembering(events, cutoff):
        nonlocal longest
        longest = max(longest, len(events))
        return longest

    @custom.feature("events_so_far", "Events so far, and days since the last.")
    def honest(events, cutoff):
        return len(events) + (cutoff - events.time[-1]) / DAY_US if len(events) else None

    plan = replace(PLAN, custom=("longest_so_far", "events_so_far"))
    assert caught(log, fill_matrix, plan=plan) == ("longest_so_far",)


# ---------------------------------------------------------------- the check itself


def test_moments_of_surveys_do_not_crowd_out_the_grid():
    surveys = pd.DataFrame(
        {"customer_id": np.resize(CUSTOMERS, 200), "cutoff": CUTOFFS[0] + pd.to_timedelta(np.arange(200) + 1, unit="h")}
    )
    snapshots = pd.concat([surveys, *[SNAPSHOTS] * 20])
    report = check_leakage(journeys(late=True), PLAN, snapshots, max_cutoffs=6)
    assert set(CUTOFFS.as_unit("us").asi8) <= set(report.cutoffs)
    assert (report.n_customers, len(report.cutoffs), report.n_snapshots) == (30, 6, 180)


def test_a_log_in_parts_gives_each_leak_once():
    whole, table = journeys(late=True).block, journeys(late=True).customers
    log = blocks_of(slice_block(whole, 0, 11), slice_block(whole, 11, 30), customers=table)

    def later(journey, cutoff, block):
        return (journey.time < cutoff + 30 * DAY_US).sum()

    report = check_leakage(log, PLAN, SNAPSHOTS, fill=in_column("ever__all", later))
    leaks = [(leak.column, leak.cutoff, leak.tampering) for leak in report.leaks]
    assert len(set(leaks)) == len(leaks) == 6
    assert {leak.n_rows for leak in report.leaks if leak.tampering == "deleted"} == {30}
    assert max(leak.n_rows for leak in report.leaks) == 30
    assert check_leakage(log, PLAN, SNAPSHOTS).clean


def test_customers_with_numbers_for_ids_and_without_a_table():
    numbers = np.arange(30) - 15
    log = blocks_of(replace(journeys(late=True).block, customers=numbers))
    snapshots = SNAPSHOTS.assign(customer_id=np.resize(numbers, 60))
    plan = replace(PLAN, customer_attributes=())
    assert caught(log, fill_matrix, plan=plan, snapshots=snapshots) == ()
    assert caught(log, in_column("ever__all", n_customers), plan=plan, snapshots=snapshots) == ("ever__all",)


@pytest.mark.parametrize("wrong", [lambda rows: rows[:, 1:], lambda rows: rows.astype(float), lambda rows: rows[1:]])
def test_features_of_another_shape_are_refused(log, wrong):
    with pytest.raises(ConfigError, match="fill must give float32 of shape"):
        caught(log, lambda *arguments, customers=None: wrong(fill_matrix(*arguments, customers)))
