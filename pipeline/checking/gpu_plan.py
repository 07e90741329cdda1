"""GPU plan: what a training run would take of so many GPUs, and the first setting that would fit."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from pelagos.pipeline.checking.check_finding import CheckFinding, bytes_text, warning
from pelagos.pipeline.checking.gpu_target import GpuTarget
from pelagos.pipeline.checking.model_states import ModelStates, model_states
from pelagos.pipeline.checking.step_work import StepWork
from pelagos.pipeline.training.training_run import TrainingStage


@dataclass(frozen=True)
class Setting:
    """What may be set to make a run fit.

    Attributes:
        stage: of ZeRO.
        checkpointing: whether blocks are recomputed.
        micro_batch: samples of a pass.
        domain: GPUs that share a sample.
    """

    stage: int
    checkpointing: bool
    micro_batch: int
    domain: int = 1

    def __str__(self) -> str:
        stored = "true" if self.checkpointing else "false"
        shared = f" engine.domain={self.domain}" if self.domain > 1 else ""
        return (
            f"engine.zero_stage={self.stage} network.checkpointing={stored}"
            f" loop.micro_batch={self.micro_batch}{shared}"
        )


@dataclass(frozen=True)
class GpuPlan:
    """Bytes of each GPU at every setting.

    Attributes:
        config: the run.
        target: its GPUs.
        trained: elements that are trained.
        frozen: bytes of weights that are not.
        buffers: bytes of the network's buffers.
        work: what a micro-batch takes, by whether blocks are recomputed.
        checkpointing: whether they are as the run is configured.
        domains: how many GPUs can share a sample, beside what is configured.
        layer: elements of the largest layer, which ZeRO 3 gathers at once.
    """

    config: TrainingStage
    target: GpuTarget
    trained: int
    frozen: int
    buffers: int
    work: Mapping[bool, StepWork]
    checkpointing: bool
    domains: tuple[int, ...] = ()
    layer: int = 0

    @property
    def configured(self) -> Setting:
        """The run as it is configured."""
        engine, loop = self.config.engine, self.config.loop
        return Setting(engine.stage(self.target.gpus), self.checkpointing, loop.micro_batch, engine.domain)

    @property
    def stages(self) -> tuple[int, ...]:
        """Stages that differ, of those that the run can have."""
        return (0,) if self.target.gpus == 1 or self.config.optimizer.matrices == "muon" else (0, 1, 2, 3)

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step on each GPU, or on each group of them that shares samples."""
        return self.config.accumulation(self.target.gpus)

    def states(self, stage: int) -> ModelStates:
        """What stays on a GPU."""
        return model_states(
            self.config.engine,
            stage,
            self.target.gpus,
            self.trained,
            layer=self.layer,
            frozen=self.frozen + self.buffers,
            ema=self.config.loop.ema > 0,
            accumulation=self.accumulation,
        )

    def activations(self, setting: Setting) -> tuple[float, float]:
        """What is kept between the passes, and what is needed beside it at the worst moment."""
        work = self.work[setting.checkpointing]
        found, constant = work.of(setting.micro_batch), work.constant
        # Each of the GPUs that share a sample holds its part of it; weights in bf16 and position biases are on each.
        kept = constant + (found.activations - constant) / setting.domain
        return kept, (found.peak - found.activations) / setting.domain

    def total(self, setting: Setting) -> float:
        """What a GPU holds at the worst moment of a step, of PyTorch's tensors [bytes]."""
        states = self.states(setting.stage)
        return states.kept + states.buffers + sum(self.activations(setting))

    def fits(self, setting: Setting) -> bool:
        """Whether there is room for it, and for what is assumed beside tensors."""
        states = self.states(setting.stage)
        return self.target.fits(states.kept, states.buffers + sum(self.activations(setting)))

    def first_fit(self) -> Setting | None:
        """The first setting that fits: samples on one GPU, nothing recomputed, large micro-batches, low stages.

        In this order: sharing a sample costs exchanges in every layer, recomputing up to a third of every step; smaller
        micro-batches cost little, as long as they keep a GPU busy.
        """
        micro = self.config.loop.micro_batch
        # Divisors, so that a step has the samples that it had.
        sizes = [size for size in range(micro, 0, -1) if micro % size == 0]
        settings = (
            Setting(stage, checkpointing, size, domain)
            for domain in (self.config.engine.domain, *self.domains)
            for checkpointing in sorted(self.work)
            for size in sizes
            for stage in self.stages
            if not (stage == 3 and self._excludes_three)
        )
        return next(filter(self.fits, settings), None)

    @property
    def _excludes_three(self) -> bool:
        """Whether the engine would refuse ZeRO 3."""
        engine = self.config.engine
        return self.frozen > 0 or engine.compile != "off" or engine.weights == "bfloat16"

    def findings(self) -> Iterator[CheckFinding]:
        """What is worth knowing of it."""
        target = self.target
        yield CheckFinding(
            "GPUs",
            f"{target.gpus} of {target.memory:g} GB, {target.per_node} a machine; estimated, none was used",
            {"gpus": target.gpus, "memory": 1e9 * target.memory, "per_node": target.per_node},
        )
        for checkpointing, work in sorted(self.work.items()):
            yield self._describe_activations(work, checkpointing=checkpointing)
        for stage in self.stages:
            yield self._describe_stage(stage)
        if self.domains:
            yield self._describe_domains()
        yield from self._describe_fit()

    def _describe_domains(self) -> CheckFinding:
        setting = self.configured
        sizes = {domain: self.total(replace(setting, domain=domain)) for domain in self.domains}
        listed = ", ".join(f"{domain} GPUs {bytes_text(size)} each" for domain, size in sizes.items())
        return CheckFinding(
            "domain",
            f"samples shared by {self.config.engine.shared} (engine.domain), at ZeRO {setting.stage}: {listed}",
            {"domains": {str(domain): size for domain, size in sizes.items()}},
        )

    def _describe_activations(self, work: StepWork, *, checkpointing: bool) -> CheckFinding:
        micro = self.config.loop.micro_batch
        found = work.of(micro)
        # Below zero by a little where a batch of one is laid out more tightly than others.
        constant = max(0.0, work.constant)
        each = (found.activations - constant) / micro
        how = "with checkpointing" if checkpointing else "all stored"
        return CheckFinding(
            "activations",
            f"{how}: {bytes_text(found.activations)} of a micro-batch of {micro} ({bytes_text(each)} a sample and"
            f" {bytes_text(constant)} in any case), {bytes_text(found.peak)} at the worst moment of the pass back",
            {
                "checkpointing": checkpointing,
                "micro_batch": micro,
                "bytes": found.activations,
                "bytes_per_sample": each,
                "peak_bytes": found.peak,
                "operations": found.flops,
            },
        )

    def _describe_stage(self, stage: int) -> CheckFinding:
        states = self.states(stage)
        parts = {name: size for name, size in asdict(states).items() if size and name != "buffers"}
        listed = ", ".join(f"{name.replace('_', ' ')} {bytes_text(size)}" for name, size in parts.items())
        totals = {
            key: self.total(replace(self.configured, stage=stage, checkpointing=key))
            for key in sorted(self.work)
        }
        in_all = " or ".join(
            f"{bytes_text(size)}{' with checkpointing' if key else ''}" for key, size in totals.items()
        )
        beside = f"; buffers {bytes_text(states.buffers)}" if states.buffers else ""
        return CheckFinding(
            "GPU memory",
            f"ZeRO {stage}: {bytes_text(states.kept)} of model states ({listed}){beside};"
            f" with activations {in_all}",
            {
                "zero_stage": stage,
                **asdict(states),
                "states": states.kept,
                "bytes": totals.get(False),
                "checkpointing_bytes": totals.get(True),
            },
        )

    def _describe_fit(self) -> Iterator[CheckFinding]:
        setting, found = self.configured, self.first_fit()
        if self.fits(setting):
            yield CheckFinding(
                "setting",
                f"as configured it fits: {bytes_text(self.total(setting))} of tensors",
                {"fits": True},
            )
            return
        text = f"as configured it does not fit: {bytes_text(self.total(setting))} of tensors"
        if found is None:
            yield warning(
                f"{text}, and no ZeRO stage, checkpointing, smaller micro-batch or domain would make it fit"
            )
            return
        yield warning(f"{text}; the first setting that would: {found}")
        yield CheckFinding("setting", str(found), {"fits": False, **asdict(found)})
