from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from analytic_source import configuration
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.samples.allowed_symmetries import DIRECTED
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture, Sweep
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.window_sampling import RolloutSampling
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable, known_variable
from tests.preprocessing.memory_store import memory_store, solved_store

ADAPTER: TypeAdapter[Any] = TypeAdapter(Equation)
INTERVALS = {
    "navier_stokes": 0.04,
    "kolmogorov": 0.04,
    "gray_scott": 20.0,
    "allen_cahn": 0.05,
    "wave": 0.03,
    "euler": 0.04,
    "burgers": 0.04,
    "korteweg_de_vries": 0.04,
    "kuramoto_sivashinsky": 0.5,
}


VELOCITY = ("velocity_x", "velocity_y")


def equation(kind: str, **values: Any) -> PDE:
    pde: PDE = ADAPTER.validate_python({"kind": kind, **values}).build()
    return pde


def samples_of(store: SampleStore, steps: int = 0, **augment: Any) -> Dataset:
    sampling = {"sampling": RolloutSampling(steps=steps)} if steps else {}
    config = DatasetConfig(path=Path("memory"), augment=AugmentConfig(**augment), **sampling)
    return Dataset(store, config, Normalizer.of(store))


def transformed(dataset: Dataset, samples: list[int], key: tuple[int, ...] = (0, 4, 0)) -> dict[str, Tensor]:
    """The parts of transformed samples in physical units, in double precision."""
    frames, buffers = dataset.frames_of(np.array(samples), None, key), dataset.shapes.buffers(len(samples))
    dataset.read(frames, buffers, scaled=False)
    batch = dataset.wrap_unscaled(frames, buffers)
    num = len(dataset.store.variables)
    return {
        "frames": torch.cat([batch.inputs[:, None, :num], batch.targets], 1).double(),
        "static": batch.inputs[:, num:].double(),
        "scalars": batch.scalars.double(),
        "lead": batch.lead_time.double() * dataset.layout.time_scale,
    }


def relative_residual(pde: PDE, parts: dict[str, Tensor], steps: int = 8) -> float:
    """The residual of transformed samples relative to how much their frames change, the largest of all samples."""
    found = []
    for n, lead in enumerate(parts["lead"].tolist()):
        frames, static, scalars = (parts[name][n : n + 1] for name in ("frames", "static", "scalars"))
        # As many time steps as the trajectories were made with, so that their errors are the same.
        residual = pde.residual(frames, static, scalars, lead, lead / steps)
        found.append(float(residual.norm() / ((frames[:, 1:] - frames[:, :-1]) / lead).norm()))
    return max(found)


@pytest.mark.parametrize("kind", INTERVALS)
def test_transformed_trajectories_obey_the_same_equation(kind: str) -> None:
    # Fronts need a point for each unit of length.
    pde = equation(kind, **({"length": 12.0, "modes": 2} if kind == "kuramoto_sivashinsky" else {}))
    store = solved_store(pde, 12, (16, 16), INTERVALS[kind], 3, INTERVALS[kind] / 8)
    # Their rates, concentrations and wave lengths are numbers of the equations themselves, which no scaling keeps.
    scale = 1.0 if kind in ("gray_scott", "kuramoto_sivashinsky") else 1.5
    dataset = samples_of(store, steps=2, scale=scale)
    assert dataset.augmentation is not None
    turned = (REVERSALS[0],) if kind == "korteweg_de_vries" else (*REVERSALS, "quarter turns")
    assert dataset.augmentation.names[: 2 + len(turned)] == (*ROLLS, *turned)
    assert len(dataset.augmentation.turns) == (2 if kind == "korteweg_de_vries" else 8)
    assert ("scalings of time" in dataset.augmentation.names) == (scale > 1)
    parts = transformed(dataset, list(range(12)))
    drawn = dataset.frames_of(np.arange(12), None, (0, 4, 0)).transformation
    assert drawn is not None
    assert len(np.unique(drawn.turns, axis=0)) > len(dataset.augmentation.turns) / 2
    # Frames are stored in single precision, whose rounding the residual divides by a change of a few per cent.
    assert relative_residual(pde, parts) < 2e-4


def test_a_wrong_sign_would_break_the_equation() -> None:
    pde = equation("navier_stokes")
    store = solved_store(pde, 12, (16, 16), 0.04, 3, 0.005)
    wrong = samples_of(store, 2, kinds={"velocity_x": "scalar", "velocity_y": "scalar"})
    assert relative_residual(pde, transformed(wrong, list(range(12)))) > 0.1


@pytest.mark.parametrize(
    ("kind", "values", "shape"),
    [
        ("navier_stokes", {"tracer": True}, (16, 16)),
        ("navier_stokes", {"tracer": True}, (12, 18)),
        ("burgers", {}, (16, 16)),
        ("korteweg_de_vries", {}, (16, 16)),
    ],
)
def test_a_moving_frame_obeys_the_same_equation(
    kind: str, values: dict[str, Any], shape: tuple[int, int]
) -> None:
    pde = equation(kind, **values)
    store = solved_store(pde, 8, shape, 0.1, 3, 0.1 / 20)
    dataset = samples_of(store, 2, galilean=3.0)
    parts = transformed(dataset, list(range(8)))
    drawn = dataset.frames_of(np.arange(8), None, (0, 4, 0)).transformation
    assert drawn is not None
    axes = [axis in pde.symmetries.galilean for axis in "yx"]
    assert (drawn.velocity != 0).any(axis=0).tolist() == axes
    # Time steps of a fourth-order method at a Courant number of a few tenths leave more than rounding.
    assert relative_residual(pde, parts, 20) < 1e-3


def test_earlier_frames_go_with_their_sample() -> None:
    pde = equation("navier_stokes")
    store = solved_store(pde, 6, (16, 16), 0.1, 3, 0.1 / 20)
    config = DatasetConfig(
        path=Path("memory"),
        sampling=RolloutSampling(steps=1),
        history=(1,),
        augment=AugmentConfig(galilean=2.0),
    )
    dataset = Dataset(store, config, Normalizer.of(store))
    batch = dataset.batch(np.arange(6), key=(0, 4, 1))
    inputs = batch.inputs.reshape(6, 2, 2, 16, 16).flip(1)
    frames = dataset.output_normalizer.denormalize(torch.cat([inputs, batch.targets], 1).double())
    parts = {"frames": frames, "static": torch.zeros(6, 0, 16, 16), "scalars": batch.scalars.double()}
    assert relative_residual(pde, {**parts, "lead": torch.full((6,), 0.1)}, 20) < 1e-3


def test_vorticity_obeys_its_equation_under_all_turns() -> None:
    pde = equation("navier_stokes")
    solved = solved_store(pde, 8, (16, 16), 0.04, 3, 0.005)
    velocity = np.stack([[read(solved, n, t) for t in range(3)] for n in range(8)])
    vorticity = pde.vorticity(torch.from_numpy(velocity).double().flatten(0, 1))  # type: ignore[attr-defined]
    mean = velocity.mean((-2, -1))
    state = vorticity.reshape(8, 3, 1, 16, 16).numpy()
    assert abs(mean).max() < 1e-6, "or the vorticity would not tell the velocity"
    scalars = (solved.params, np.asarray(solved.scalar_values))
    store = memory_store(state, (known_variable("vorticity"),), solved.grid, 0.04, scalars=scalars)
    parts = transformed(samples_of(store, 2), list(range(8)))
    flow = pde.velocity(parts["frames"].flatten(0, 2), torch.zeros(24, 2).double())  # type: ignore[attr-defined]
    parts["frames"] = flow.reshape(8, 3, 2, 16, 16)
    assert relative_residual(pde, parts) < 2e-4


def read(store: SampleStore, trajectory: int, time: int) -> np.ndarray[Any, Any]:
    frame = np.empty((len(store.variables), *store.grid.shape), np.float32)
    store.frames.read_frame((trajectory, time), [frame])
    return frame


def flow(names: tuple[str, ...] = VELOCITY, **facts: Any) -> SampleStore:
    """Noise on a periodic square."""
    grid = facts.pop("grid", square())
    variables = tuple(known_variable(name) for name in names)
    state = np.random.default_rng(0).normal(size=(3, 4, len(names), *grid.shape))
    return memory_store(state, variables, grid, **facts)


def square(size: int = 8, **changes: Any) -> Grid:
    axis = np.arange(size) / size
    sides = ("periodic", "periodic")
    return Grid(
        **({"kind": "cartesian", "y": axis, "x": axis, "boundary_y": sides, "boundary_x": sides} | changes)
    )


def names_of(store: SampleStore, **augment: Any) -> tuple[str, ...]:
    return AugmentConfig(**augment).build(store).names


ROLLS, REVERSALS = ("rolls along y", "rolls along x"), ("reversals of y", "reversals of x")


def test_defaults_follow_from_grid_and_variables() -> None:
    assert names_of(flow()) == (*ROLLS, *REVERSALS, "quarter turns")
    assert names_of(flow(), auto=False) == ()
    assert names_of(flow(), auto=False, roll=True) == ROLLS
    assert names_of(flow(), turn=False) == (*ROLLS, *REVERSALS)
    assert names_of(flow(("velocity_x",))) == (*ROLLS, *REVERSALS)
    assert names_of(flow(("B",))) == ROLLS
    assert names_of(flow(("B",)), kinds={"B": "pseudoscalar"}) == (*ROLLS, *REVERSALS, "quarter turns")
    stretched = square(y=np.arange(8) / 4)
    assert names_of(flow(grid=stretched)) == (*ROLLS, *REVERSALS)
    channel = square(boundary_y=("wall", "wall"))
    assert names_of(flow(grid=channel)) == ("rolls along x",)
    assert names_of(flow(grid=channel), reflect=True) == ("rolls along x", *REVERSALS)
    assert names_of(flow(grid=square(boundary_y=("open", "wall"), boundary_x=("open", "open")))) == ()
    # Its force is in no file.
    assert names_of(flow(archive="fno")) == ()
    assert names_of(flow(archive="fno"), equation="navier_stokes") == (*ROLLS, *REVERSALS, "quarter turns")


def globe_of(names: tuple[str, ...]) -> SampleStore:
    """Noise on the globe."""
    grid = Grid(
        "latlon",
        np.linspace(-80, 80, 5),
        np.arange(0, 360, 45.0),
        ("pole", "pole"),
        ("periodic", "periodic"),
        "degrees",
    )
    return flow(names, grid=grid)


def test_the_globe_turns_about_its_axis_where_it_is_asked_to() -> None:
    store = globe_of(("air_temperature", "precipitation_flux"))
    assert names_of(store) == ()
    assert names_of(store, roll=True) == ("rolls along x",)
    with pytest.raises(ConfigError, match="the earth turns"):
        names_of(store, reflect=True)
    dataset = samples_of(store, roll=True)
    frames = dataset.frames_of(np.arange(8), None, (0, 4, 1))
    assert frames.transformation is not None
    shifts = frames.transformation.moves.shifts
    assert not shifts[..., 0].any()
    assert len(np.unique(shifts[:, 0, 1])) > 2
    assert (shifts == shifts[:, :1]).all(), "all frames of a sample are rolled alike"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"roll": True}, "not periodic along y; .* not periodic along x"),
        ({"turn": True}, "its sides along y are open and open"),
        ({"jitter": 4}, "not periodic"),
        ({"kinds": {"wind": "scalar"}}, r"augment\.kinds names wind; the fields are .*velocity_x"),
        ({"galilean": 1.0}, "state augment.equation"),
        ({"scale": 2.0}, "state augment.equation"),
        ({"equation": "flux"}, "'flux' is none of allen_cahn, burgers, euler"),
    ],
)
def test_what_is_not_allowed_is_refused(asked: dict[str, Any], reason: str) -> None:
    store = flow(grid=square(boundary_y=("open", "open"), boundary_x=("open", "open")))
    with pytest.raises(ConfigError, match=reason):
        AugmentConfig(**asked).build(store)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [({"jitter": 1}, "jitter: .* are none"), ({"jitter": 4, "roll": False}, "4 asks for rolls, and roll is")],
)
def test_jitter_without_rolls_is_refused(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AugmentConfig(**asked)


@pytest.mark.parametrize(
    ("names", "asked", "reason"),
    [
        (("phase",), {"galilean": 1.0, "equation": "allen_cahn"}, "not the same in a moving frame"),
        (VELOCITY, {"scale": 2.0, "equation": "navier_stokes"}, "do not say drag, viscosity"),
        (
            ("velocity_x",),
            {"scale": 2.0, "equation": {"kind": "burgers", "components": 1}},
            "not say viscosity",
        ),
        ((*VELOCITY, "pressure"), {"scale": 2.0, "equation": "navier_stokes"}, "pressure are no fields of"),
    ],
)
def test_what_the_equation_does_not_allow_is_refused(
    names: tuple[str, ...], asked: dict[str, Any], reason: str
) -> None:
    scalars = (("viscosity", "drag"), np.zeros((3, 2))) if "pressure" in names else ((), None)
    with pytest.raises(ConfigError, match=reason):
        AugmentConfig(**asked).build(flow(names, scalars=scalars))


@pytest.mark.parametrize(
    ("names", "stated", "found"),
    [
        (
            VELOCITY,
            "wave",
            "wave is an equation of displacement, displacement_rate; what evolves here is velocity_x",
        ),
        (
            ("vorticity",),
            "navier_stokes",
            r"is vorticity .*state the whole equation, such as {kind: navier",
        ),
        # A vector goes its own way, and a scalar with the whole flow alone.
        (
            ("elevation", *VELOCITY),
            "korteweg_de_vries",
            "is elevation, velocity_x, velocity_y",
        ),
        (("velocity_x", "pressure"), "navier_stokes", "is velocity_x, pressure"),
        ((*VELOCITY, "B"), "navier_stokes", "is velocity_x, velocity_y, B"),
        (("tracer",), "navier_stokes", "what evolves here is tracer"),
    ],
)
def test_an_equation_of_other_fields_is_refused(names: tuple[str, ...], stated: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"memory: augment.equation: .*{found}"):
        names_of(flow(names), equation=stated)


def test_scalars_may_go_with_the_fields_of_an_equation() -> None:
    force = (known_variable("force_x").model_copy(update={"role": "static"}),)
    for names in (("velocity_x",), (*VELOCITY, "pressure"), (*VELOCITY, "tracer")):
        store = flow(names, static=(force, np.zeros((3, 1, 8, 8))))
        assert names_of(store, equation="navier_stokes") == names_of(store)
    assert names_of(flow((*VELOCITY, "B")), equation="navier_stokes", kinds={"B": "scalar"})
    waves = ("displacement", "displacement_rate")
    assert names_of(flow(waves), equation="wave")[-1] == "negations of displacement and displacement_rate"
    # Of a pressure that they cause the sign would have to change, too.
    assert "negations" not in names_of(flow((*waves, "pressure")), equation="wave")[-1]


def test_an_equation_of_another_grid_is_refused() -> None:
    channel, row = square(boundary_y=("wall", "wall")), square(y=np.zeros(1), boundary_y=("open", "open"))
    with pytest.raises(ConfigError, match="sides along y are wall and wall, those of navier_stokes periodic"):
        names_of(flow(grid=channel), equation="navier_stokes")
    assert "rolls along x" in names_of(flow(grid=row), equation={"kind": "burgers", "length": 7.0})
    globe = globe_of(("height", *VELOCITY))
    with pytest.raises(ConfigError, match="the grid is latlon, that of navier_stokes is cartesian"):
        names_of(globe, equation="navier_stokes", kinds={"height": "scalar"})
    assert names_of(globe, equation="shallow_water", kinds={"height": "scalar"}) == ("rolls along x",)


def test_friction_and_forces_forbid_a_moving_frame() -> None:
    scalars = (("viscosity", "drag"), np.array([[1e-3, 0.0]] * 3))
    asked = AugmentConfig(galilean=1.0, equation="navier_stokes")
    store = flow(scalars=scalars)
    assert "Galilean shifts" in asked.build(store).names
    fastest = store.stats.std.max() * store.dt / store.grid.spacing[0]  # points in a frame
    slow = AugmentConfig(galilean=0.3 / fastest, equation="navier_stokes").build(store)
    assert "lead times of 4 frames or more" in slow.describe()
    assert (
        "lead times"
        not in AugmentConfig(galilean=1 / fastest, equation="navier_stokes").build(store).describe()
    )
    rough = (("viscosity", "drag"), np.array([[1e-3, 0.1]] * 3))
    with pytest.raises(ConfigError, match="drag distinguish a frame of rest"):
        asked.build(flow(scalars=rough))
    force = (known_variable("force_x").model_copy(update={"role": "static"}),)
    pushed = flow(scalars=scalars, static=(force, np.zeros((3, 1, 8, 8))))
    with pytest.raises(ConfigError, match="force_x"):
        asked.build(pushed)


def test_jitter_rolls_by_less_than_a_patch() -> None:
    dataset = samples_of(flow(), jitter=4, auto=False)
    shifts = [shifts_of(dataset, number) for number in range(20)]
    assert np.unique(shifts).tolist() == [0, 1, 2, 3]


def shifts_of(dataset: Dataset, number: int) -> np.ndarray[Any, Any]:
    transformation = dataset.frames_of(np.arange(8), None, (0, 4, number)).transformation
    assert transformation is not None
    return transformation.shifts


def test_missing_values_go_with_their_field() -> None:
    store = flow()
    store.frames._values[0, 0, 0, 2, 3] = np.nan  # type: ignore[attr-defined]
    store.num_missing = 1  # type: ignore[misc]
    dataset = samples_of(store)
    frames, buffers = dataset.frames_of(np.arange(6), None, (0, 4, 3)), dataset.shapes.buffers(6)
    dataset.read(frames, buffers)
    assert (buffers.inputs[frames.index[:, 1] == 0] == 0).sum() == (frames.index[:, :2] == 0).all(1).sum()
    assert np.isfinite(buffers.inputs).all()


@pytest.mark.parametrize("processes", [False, True])
def test_transformations_depend_on_the_place_in_the_run_alone(tmp_path: Path, processes: bool) -> None:
    source = {"names": ["velocity_x", "velocity_y"], "trajectories": 5, "size": 8}
    path = build(configuration(tmp_path, source))
    config = DatasetConfig.model_validate({"path": path, "augment": {"roll": True, "auto": False}})
    order = Mixture([config.open()], batch_size=4, micro_batch=2, seed=5)
    whole = [batch.inputs.clone() for batch in Loader(order, num_steps=4)]
    split: dict[int, Tensor] = {}
    for rank in range(2):
        # From the third step on, on two processes: as a run that was continued.
        reader = Loader(order, rank=rank, world=2, start_step=2, num_steps=2, processes=processes, threads=1)
        for step, batch in enumerate(reader):
            split[4 + 2 * step + rank] = batch.inputs.clone()
    for number, inputs in split.items():
        assert torch.equal(inputs, whole[number])
    plain = order.datasets[0]
    again = [plain.batch(order.block(number).samples).inputs for number in range(8)]
    assert any(not torch.equal(one, other) for one, other in zip(whole, again, strict=True))


def test_samples_that_are_scored_stay_as_they_are() -> None:
    dataset = samples_of(flow())
    [batch] = Loader(Sweep([dataset], 32), threads=1)
    assert torch.equal(batch.inputs, dataset.batch(np.arange(dataset.num_samples)).inputs)


def test_what_is_taken_for_granted_is_said() -> None:
    said = AugmentConfig().build(flow()).describe()
    assert (
        "assumes that nothing acts from outside but the channels, and that no direction is preferred" in said
    )
    assert "assumes" not in AugmentConfig(equation="navier_stokes").build(flow()).describe()
    assert AugmentConfig(auto=False).build(flow()).describe() == "none"


def test_transformed_fields_are_scaled_as_their_place_is() -> None:
    # Scales of a store's own need not be symmetric: a reversed velocity is reversed about zero, not about its mean.
    variables = (known_variable("velocity_x"), known_variable("velocity_y"))
    state = np.random.default_rng(0).normal([[[3.0]], [[-1.0]]], [[[2.0]], [[0.5]]], (6, 1, 2, 8, 8))
    store = memory_store(state, variables, square(), num_times=2)
    store = memory_store(np.repeat(state, 2, 1), variables, square())
    dataset = samples_of(store)
    frames, raw, scaled = (
        dataset.frames_of(np.arange(6), None, (0, 4, 2)),
        dataset.shapes.buffers(6),
        dataset.shapes.buffers(6),
    )
    dataset.read(frames, raw, scaled=False)
    dataset.read(frames, scaled)
    expected = dataset.input_normalizer.normalize(raw.inputs)
    assert scaled.inputs == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.equal(
        dataset.wrap_unscaled(frames, raw).to("cpu").inputs, torch.from_numpy(scaled.inputs)
    ), "a device that normalises gives the same bits"


def test_a_descending_axis_turns_vectors_the_other_way() -> None:
    pde = equation("navier_stokes")
    solved = solved_store(pde, 8, (16, 16), 0.04, 3, 0.005)
    state = np.stack([[read(solved, n, t) for t in range(3)] for n in range(8)])[:, :, :, ::-1]
    grid = Grid(
        "cartesian", solved.grid.y[::-1].copy(), solved.grid.x, solved.grid.boundary_y, solved.grid.boundary_x
    )
    scalars = (solved.params, np.asarray(solved.scalar_values))
    parts = transformed(
        samples_of(memory_store(state, solved.variables, grid, 0.04, scalars=scalars), 2), list(range(8))
    )
    parts["frames"] = parts["frames"].flip(-2)
    assert relative_residual(pde, parts) < 2e-4


def test_a_known_tensor_kind_beats_that_of_the_name() -> None:
    field = Variable(name="velocity_z")
    store = memory_store(np.zeros((1, 2, 1, 8, 8)), (field,), square())
    build_ = AugmentConfig(kinds={"velocity_z": "pseudoscalar"}).build(store)
    assert build_.fields.parities[:, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("values", "asked", "added"),
    [
        ({"kind": "navier_stokes", "state": "vorticity"}, {"scale": 1.5}, ["scalings of time"]),
        (
            {"kind": "navier_stokes", "tracer": True},
            {"scale": 1.5, "galilean": 2.0},
            ["negations of tracer", "Galilean shifts", "scalings of time", "scalings of tracer"],
        ),
        (
            {"kind": "burgers", "components": 1},
            {"scale": 1.5, "galilean": 2.0},
            ["Galilean shifts", "scalings of time"],
        ),
    ],
    ids=str,
)
def test_a_whole_equation_allows_what_its_form_allows(
    values: dict[str, Any], asked: dict[str, Any], added: list[str]
) -> None:
    pde = equation(**values)
    scalars = (pde.scalars, np.array([[1e-3, 0.0, 1e-3][: len(pde.scalars)]] * 3))
    store = flow(tuple(variable.key for variable in pde.variables), scalars=scalars)
    without = set(names_of(store))
    assert [name for name in names_of(store, equation=values, **asked) if name not in without] == added
    with pytest.raises(ConfigError, match="state the whole equation"):
        names_of(store, equation=values["kind"], **asked)


def test_what_is_no_equation_is_refused_with_the_configuration() -> None:
    with pytest.raises(ValidationError, match="equation: viscosty: Extra inputs"):
        AugmentConfig(equation={"kind": "navier_stokes", "viscosty": 1e-3})
    with pytest.raises(ValidationError, match="'navier_stokes', 'kolmogorov'"):
        AugmentConfig(equation={"kind": "flux"})


def test_elevations_alone_are_taken_for_waves_that_run_along_x() -> None:
    assert names_of(flow(("elevation",))) == (*ROLLS, "reversals of y")
    assert names_of(flow(("elevation",)), reflect=True, turn=True) == (*ROLLS, *REVERSALS, "quarter turns")
    # Of shallow water, say, in which they run anywhere.
    assert names_of(flow(("elevation", "velocity_x", "velocity_y")))[-1] == "quarter turns"


def test_directed_fields_are_those_of_the_equations_that_tell_directions_apart() -> None:
    found = {}
    for config in get_args(get_args(Equation)[0]):
        pde = config().build()
        if len(pde.symmetries.reflections) < 2 and pde.time_units == "1":
            [found[tuple(v.key for v in pde.variables)]] = {"y", "x"} - {*pde.symmetries.reflections}
    assert found == DIRECTED
