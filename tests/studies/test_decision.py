"""What pairs of values are taken to say, and in which words."""

import math

import pytest

from ddpm_lab.studies.decision import Rule, sentence, times

RULE = Rule(margin=0.15, alpha=0.05, higher=False)


def _logs(mean: float, sd: float, count: int) -> list[float]:
    """With that mean and standard deviation over every two."""
    return [math.log(mean) + sd * (1 if number % 2 else -1) for number in range(count)]


@pytest.mark.parametrize(
    ("mean", "higher", "words"),
    [
        (0.78, False, "B is better"),
        (0.78, True, "B is worse"),
        (1.3, False, "B is worse"),
        (1.01, False, "no difference above 15 %"),
    ],
)
def test_the_outcome_in_words(mean: float, higher: bool, words: str) -> None:
    rule = Rule(0.15, 0.05, higher)
    found = rule.decide(_logs(mean, 0.05, 20))
    assert found.ratio is not None
    assert found.interval is not None
    assert found.ratio == pytest.approx(mean, rel=0.05)
    assert found.interval[0] < found.ratio < found.interval[1]
    low, high = map(times, found.interval)
    told = f"{words}: {times(found.ratio)} x the FID of A (95 %: {low} to {high}) after {found.pairs} pairs, 56 min"
    assert sentence(found, "FID", rule, 56.2) == told
    assert found.needed is None


def test_pairs_after_those_that_told_change_nothing() -> None:
    told = RULE.decide(_logs(0.7, 0.05, 8))
    assert told.outcome == "better"
    assert told.pairs < 8
    assert RULE.decide([*_logs(0.7, 0.05, 8), 5.0, 5.0, 5.0]) == told


def test_an_undecided_one_says_about_how_many_pairs_would_tell_and_they_do() -> None:
    logs = _logs(0.93, 0.12, 10)
    found = RULE.decide(logs)
    assert found.outcome == "undecided"
    told = sentence(found, "FID", RULE, 0.5)
    assert told.startswith(f"undecided after 10 pairs, under a minute; about {found.needed} would tell: 0.93 x the FID of A")
    assert found.needed is not None
    later = RULE.decide(_logs(0.93, 0.12, found.needed + 2))
    assert later.outcome != "undecided"
    assert abs(later.pairs - found.needed) <= 6
    one = RULE.decide(logs[:1])
    assert (one.outcome, one.interval, one.needed) == ("undecided", None, None)


def test_without_a_margin_only_a_difference_ends_it() -> None:
    assert Rule(0, 0.05, False).decide(_logs(1.0, 0.05, 40)).outcome == "undecided"
    assert Rule(0, 0.05, False).decide(_logs(0.97, 0.05, 60)).outcome == "better"


TOLD = {1: "1.00", 0.7812: "0.78", 1.01: "1.01", 0.9996: "0.9996", 0.0513: "0.051", 12.3: "12.30"}


@pytest.mark.parametrize(("ratio", "text"), TOLD.items())
def test_a_ratio_has_the_decimals_that_tell_it_from_one(ratio: float, text: str) -> None:
    assert times(ratio) == text
