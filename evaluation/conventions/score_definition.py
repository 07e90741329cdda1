"""Score definition: one score, with every choice that benchmarks make differently."""

from typing import Literal

from pydantic import Field, field_validator

from pelagos.evaluation.conventions.formula import Parameters
from pelagos.evaluation.conventions.formulas import FORMULAS
from pelagos.preprocessing.config import Config

Samples = Literal["mean", "median", "max"]
Variables = Literal["mean", "sum", "each"]
Leads = Literal["mean", "last", "geometric_mean", "each"]


class ScoreDefinition(Config):
    """A formula and the order in which forecasts, variables and lead times come together.

    Reductions are made in this order: what is pooled, the formula with its root, samples, variables, lead times.

    Attributes:
        name: in scores.json.
        formula: what is computed of a field.
        eps: added to the mean of the denominator.
        floor: smallest denominator.
        ddof: taken off the number of points in a variance.
        percent: whether the result is multiplied by 100.
        pool_variables: whether the variables of a score group are added up before ratio and root.
        pool_samples: whether forecasts are added up before ratio and root.
        samples: how forecasts come together after the root; of no effect where they are pooled.
        variables: how variables (or groups, where pooled) come together; `each` keeps them apart.
        lead_times: how lead times come together; `each` keeps them apart.
        window: first step counted, and the one after the last, from 0; all by default.
        entries: first wavenumber, band, threshold or quantile counted, and the one after the last; all by default.
        members: of the ensemble, for probabilistic scores.
    """

    name: str
    formula: str
    eps: float = Field(default=0.0, ge=0)
    floor: float = Field(default=0.0, ge=0)
    ddof: int = Field(default=0, ge=0)
    percent: bool = False
    pool_variables: bool = False
    pool_samples: bool = False
    samples: Samples = "mean"
    variables: Variables = "mean"
    lead_times: Leads = "mean"
    window: tuple[int, int | None] = (0, None)
    entries: tuple[int, int | None] = (0, None)
    members: int = Field(default=1, ge=1)

    @field_validator("formula")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FORMULAS:
            raise ValueError(f"there is no formula {name!r}; there are {', '.join(FORMULAS)}")
        return name

    @property
    def parameters(self) -> Parameters:
        """What the formula takes."""
        return Parameters(self.eps, self.floor, self.ddof, self.entries, self.members)

    @property
    def needs(self) -> tuple[str, ...]:
        """The statistics that must have been gathered."""
        return (*FORMULAS[self.formula].needs, "max_absolute_error")

    def steps(self, count: int) -> slice:
        """The lead times that count, of so many."""
        if self.lead_times == "last":
            return slice(count - 1, count)
        first, end = self.window
        return slice(first, count if end is None else min(end, count))

    def describe(self) -> str:
        """What is computed, in a sentence.

        >>> print(ScoreDefinition(name="x", formula="rmse", pool_samples=True, variables="each").describe())
        √(Σ e² / Σ w), forecasts added up before ratio and root; each variable by itself; mean over lead times
        """
        text = FORMULAS[self.formula].text + "".join(self._choices())
        pooled = [what for what, is_so in self._pooled() if is_so]
        text += f", {' and '.join(pooled)} added up before ratio and root" if pooled else ""
        kind = "group" if self.pool_variables else "variable"
        over = [] if self.pool_samples else [f"{self.samples} over forecasts"]
        over.append(
            f"each {kind} by itself" if self.variables == "each" else f"{self.variables} over {kind}s"
        )
        return "; ".join([text, *over, self._leads()])

    def _pooled(self) -> tuple[tuple[str, bool], ...]:
        return ("variables of a group", self.pool_variables), ("forecasts", self.pool_samples)

    def _choices(self) -> list[str]:
        first, end = self.entries
        entries = f", entries {first} to {'the last' if end is None else end - 1} of these"
        return [
            " in per cent" * self.percent,
            f", eps {self.eps:g}" * bool(self.eps),
            f", denominator at least {self.floor:g}" * bool(self.floor),
            f", ddof {self.ddof}" * bool(self.ddof),
            entries * (self.entries != (0, None)),
        ]

    def _leads(self) -> str:
        first, end = self.window
        steps = (
            ""
            if (first, end) == (0, None)
            else f", steps {first + 1} to {'the last' if end is None else end}"
        )
        words = {
            "mean": "mean over lead times",
            "last": "at the last lead time",
            "geometric_mean": "geometric mean over lead times",
            "each": "each lead time by itself",
        }
        return words[self.lead_times] + steps
