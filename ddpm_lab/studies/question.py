"""What a verdict is asked: two recipes, the metric and the rule by which it is decided, all checked before anything runs."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddpm_lab.config.layers import Difference, differences
from ddpm_lab.config.load import Recipe, load_recipe
from ddpm_lab.config.overrides import of_seed
from ddpm_lab.storage.names import require_experiment_name
from ddpm_lab.studies.decision import Rule
from ddpm_lab.studies.suite_file import digest
from registry.errors import BadInput, did_you_mean
from registry.metrics import METRICS

ELSEWHERE = {"plugins", "track", "budget"}  # keys on which no image depends
UNTRAINED = {"sampling", "evaluate"}  # and no weight


@dataclass(frozen=True)
class Side:
    """A or B: a recipe, trained with the seed that it names and those that follow."""

    letter: str
    words: tuple[str, ...]  # the experiment and its overrides, as given
    budget: str | None
    recipe: Recipe

    @property
    def first_seed(self) -> int:
        return self.recipe.experiment.seed

    def command(self, number: int) -> tuple[str, ...]:
        """What `ddpm-lab` is told to train its run of that pair."""
        budget = ("--budget", self.budget) if self.budget else ()
        return ("run", *self.words, *of_seed(self.first_seed + number), *budget)

    def of_pair(self, number: int) -> Recipe:
        """Its recipe in that pair."""
        return load_recipe(self.words[0], (*self.words[1:], *of_seed(self.first_seed + number)), self.budget)


@dataclass(frozen=True)
class Question:
    """Is B better than A?"""

    a: Side
    b: Side
    metric: str  # FID/fashion_cnn
    rule: Rule

    @property
    def shared(self) -> bool:
        """Whether A and B differ in sampling alone, so that both sample from one trained run."""
        known = {plugin.digest for plugin in self.a.recipe.plugins}
        if not {plugin.digest for plugin in self.b.recipe.plugins} <= known:
            return False  # A's run does not keep what B samples with
        return not any(differences(_dump(self.a.recipe, UNTRAINED), _dump(self.b.recipe, UNTRAINED)))

    @property
    def differing(self) -> list[Difference]:
        """The keys in which B differs from A; a part and its options are one."""
        return list(differences(_dump(self.a.recipe), _dump(self.b.recipe)))

    @property
    def id(self) -> str:
        """Changes with whatever the verdict depends on but the number of pairs: an undecided one goes on with more."""
        whole = [digest(self.a.recipe), digest(self.b.recipe), self.metric, self.rule.margin, self.rule.alpha]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:8]


def ask(
    a: str, b: str, overrides: Sequence[str], budget: str | None, metric: str | None, margin: float, alpha: float
) -> Question:
    """The question, checked; `a` and `b` are an experiment and overrides as a shell would split them.

    Raises:
        BadInput: a recipe or the metric is wrong, both are the same recipe, or they are not measured alike.
    """
    one, other = (_side(letter, text, overrides, budget) for letter, text in (("A", a), ("B", b)))
    if not any(differences(_dump(one.recipe), _dump(other.recipe))):
        raise BadInput("A and B are the same recipe; to try it against itself, give B other seeds: seed=100")
    for found in differences(_protocol(one.recipe), _protocol(other.recipe)):
        raise BadInput(
            f"B has another {found.key} than A ({found.new!r}, not {found.old!r}); a verdict compares what is measured alike"
        )
    name = _metric(metric, one, other)
    return Question(one, other, name, Rule(margin, alpha, METRICS.part(name.partition("/")[0]).traits.higher))


def _side(letter: str, text: str, overrides: Sequence[str], budget: str | None) -> Side:
    try:
        words = shlex.split(text)
        if not words:
            raise BadInput("name an experiment, such as 'cosine_l2 loss=huber'")
        words = [words[0], *overrides, *words[1:]]
        if numbered := [word for word in words if word.startswith("sampling.seed=")]:
            raise BadInput(f"{numbered[0]}: samples start from the noise of the run's own seed; leave it out")
        recipe = load_recipe(words[0], words[1:], budget)
        require_experiment_name(recipe.name)
    except ValueError as error:  # BadInput, or a quote that is not closed
        raise BadInput(f"{letter}: {error}") from None
    return Side(letter, tuple(words), budget, recipe)


def _metric(asked: str | None, *sides: Side) -> str:
    """`FID/fashion_cnn`, of what was asked for, or by default the main metric in the first extractor's features."""
    name, _, extractor = (asked or METRICS.main).partition("/")
    if name not in METRICS:
        raise BadInput(f"--metric: there is no metric '{name}'; {did_you_mean(name, [part.name for part in METRICS])}")
    needs = METRICS.part(name).traits.needs
    places = [str(place) for place in sorted(needs & {"pixels", "network"})]
    known = places or [choice.name for choice in sides[0].recipe.experiment.evaluate.features]
    if (extractor or not known) and extractor not in known:
        raise BadInput(f"--metric: {name} is not measured in '{extractor}' here; {did_you_mean(extractor, known)}")
    for side in sides:
        if name != METRICS.main and name not in side.recipe.experiment.evaluate.wanted:
            raise BadInput(f"--metric: {side.letter} does not measure {name}; name it under evaluate.metrics")
    return f"{name}/{extractor or known[0]}"


def _protocol(recipe: Recipe) -> dict[str, Any]:
    whole = _dump(recipe)
    return {"dataset": whole["dataset"], "evaluate": {key: whole["evaluate"][key] for key in ("features", "n")}}


def _dump(recipe: Recipe, without: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    whole = recipe.experiment.model_dump(mode="json", exclude=ELSEWHERE | without)
    if "sampling" in whole:
        del whole["sampling"]["seed"]  # it follows the other one
    return whole
