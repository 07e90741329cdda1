"""Convention: what a benchmark reports, as a typed object that says what is computed.

Each preset follows the benchmark's code, not its paper, where they differ; faults of that code are left out and named
in `differs`. Sources: Poseidon (Herde et al., 2024), PDEBench (Takamoto et al., 2022), The Well (Ohana et al., 2024),
APEBench (Koehler et al., 2024), MPP (McCabe et al., 2024), WeatherBench 2 (Rasp et al., 2024) and WeatherBench-X.
"""

from typing import Literal

from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.preprocessing.config import Config

ConventionName = Literal[
    "poseidon", "pdebench", "the_well", "apebench", "mpp", "weatherbench2", "weatherbenchX"
]
Points = Literal["equal", "cell areas"]


class Convention(Config):
    """The scores of a benchmark.

    Attributes:
        name: of the benchmark.
        scores: in the order in which they are printed.
        headline: names of the scores by which the benchmark ranks.
        points: how the points of a field weigh.
        fields: in which units fields are compared.
        differs: where the benchmark's released code computes something else, and why it isn't followed.
    """

    name: ConventionName
    scores: tuple[ScoreDefinition, ...]
    headline: tuple[str, ...]
    points: Points
    fields: Literal["normalised", "physical"]
    differs: str = ""

    def describe(self) -> list[str]:
        """What is computed, a line a score."""
        return [f"{score.name}: {score.describe()}" for score in self.scores]


def _pdebench() -> tuple[ScoreDefinition, ...]:
    bands: dict[str, tuple[int, int | None]] = {"low": (0, 4), "mid": (4, 12), "high": (12, None)}
    return (
        ScoreDefinition(name="rmse", formula="rmse"),
        ScoreDefinition(name="nrmse", formula="nrmse"),
        ScoreDefinition(name="crmse", formula="mean_rmse", pool_samples=True),
        ScoreDefinition(name="max", formula="max_error", samples="max"),
        ScoreDefinition(name="brmse", formula="boundary_rmse"),
        *(
            ScoreDefinition(name=f"frmse_{band}", formula="fourier_rmse", pool_samples=True, entries=shells)
            for band, shells in bands.items()
        ),
    )


def _the_well() -> tuple[ScoreDefinition, ...]:
    windows: dict[str, tuple[int, int]] = {
        "vrmse_one_step": (0, 1),
        "vrmse_6_12": (6, 12),
        "vrmse_13_30": (13, 30),
    }
    return tuple(
        ScoreDefinition(name=name, formula="vrmse", eps=1e-7, ddof=1, window=window)
        for name, window in windows.items()
    )


def _weather(pool_correlation: bool) -> tuple[ScoreDefinition, ...]:
    scores = {"rmse": "rmse", "mae": "mae", "bias": "bias", "acc": "anomaly_cosine"}
    return tuple(
        ScoreDefinition(
            name=name,
            formula=formula,
            pool_samples=pool_correlation or name != "acc",
            variables="each",
            lead_times="each",
        )
        for name, formula in scores.items()
    )


CONVENTIONS: dict[ConventionName, Convention] = {
    "poseidon": Convention(
        name="poseidon",
        scores=(
            ScoreDefinition(
                name="mean_over_median_relative_l1",
                formula="normalised_relative_l1",
                floor=1e-10,
                percent=True,
                pool_variables=True,
                samples="median",
                lead_times="last",
            ),
            ScoreDefinition(
                name="mean_over_mean_relative_l1",
                formula="normalised_relative_l1",
                floor=1e-10,
                percent=True,
                pool_variables=True,
                lead_times="last",
            ),
        ),
        headline=("mean_over_median_relative_l1",),
        points="equal",
        fields="normalised",
    ),
    "pdebench": Convention(
        name="pdebench",
        scores=_pdebench(),
        headline=("nrmse",),
        points="equal",
        fields="physical",
        differs=(
            "Its driver divides the sum over batches by the index of the last one; a band without shells is NaN (grids"
            " of 24 points and fewer have no high band). Here forecasts are averaged, and such a band has no value."
            " fRMSE is for sides of length 1, the default of its code."
        ),
    ),
    "the_well": Convention(
        name="the_well",
        scores=_the_well(),
        headline=("vrmse_one_step",),
        points="equal",
        fields="physical",
        differs="Its releases before 1.2 ignore the argument eps. A window beyond the last lead time has no value.",
    ),
    "apebench": Convention(
        name="apebench",
        scores=(
            ScoreDefinition(
                name="gmean_nrmse",
                formula="relative_l2",
                variables="sum",
                lead_times="geometric_mean",
                window=(0, 100),
            ),
            ScoreDefinition(name="correlation", formula="cosine", lead_times="each"),
        ),
        headline=("gmean_nrmse",),
        points="equal",
        fields="physical",
    ),
    "mpp": Convention(
        name="mpp",
        scores=(ScoreDefinition(name="nrmse", formula="nrmse", eps=1e-7),),
        headline=("nrmse",),
        points="equal",
        fields="physical",
    ),
    "weatherbench2": Convention(
        name="weatherbench2",
        scores=_weather(pool_correlation=False),
        headline=("rmse", "acc"),
        points="cell areas",
        fields="physical",
    ),
    "weatherbenchX": Convention(
        name="weatherbenchX",
        scores=_weather(pool_correlation=True),
        headline=("rmse", "acc"),
        points="cell areas",
        fields="physical",
    ),
}
