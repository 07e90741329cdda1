"""What a GPU makes of Pelagos in less than ten minutes: `make bench-device`.

Each part prints a table, or why it was skipped; one that fails is named at the end, and does not take the others along.
Without a GPU the parts that need none run on a small network.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.device_subjects import LARGE, SMALL, Subject, recorded_dtypes, training
from benchmarks.harness import heading, line
from pelagos.models.layers.masked_attention import masked_attention
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.compilation import allow_tf32, check_compiler
from pelagos.pipeline.training.throughput import matmul_flops
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

STEPS = 5
"""That are timed, after as many that allocate and choose kernels."""
LIMIT = 480.0
"""After so long no further part is begun, so that all is done within ten minutes [s]."""
BAR = 0.15
"""How far an estimate of memory may be from what is measured."""
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bf16 operations per second by the name of a GPU, from NVIDIA's data sheets; SXM for the first two."""
_RENDEZVOUS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
Row = Sequence[object]


class SkippedError(Exception):
    """The device lacks what a part measures."""


def needs_gpu(device: torch.device, what: str) -> None:
    if device.type != "cuda":
        raise SkippedError(f"no GPU: {what}")


def seconds(call: Callable[[], object], device: torch.device, repeats: int = STEPS) -> float:
    """The mean time of a call, after as many to warm up."""
    for _ in range(repeats):
        call()
    synchronise(device)
    before = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronise(device)
    return (time.perf_counter() - before) / repeats


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def subjects(device: torch.device) -> tuple[Subject, ...]:
    return LARGE if device.type == "cuda" else (SMALL,)


# Each part gives the names of its columns, then its rows.


def machine(device: torch.device) -> Iterator[Row]:
    yield "what", "found"
    yield "PyTorch", torch.__version__
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        yield "GPU", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
        yield "CUDA", torch.version.cuda
    types: list[tuple[str, torch.dtype, bool]] = [("float32", torch.float32, False)]
    if device.type == "cuda":
        types += [("TF32", torch.float32, True), ("bf16", torch.bfloat16, True)]
    for name, dtype, tf32 in types:
        allow_tf32(tf32)
        yield f"matrix product, {name} [TFLOP/s]", f"{matmul_flops(device, dtype) / 1e12:.3g}"


def synchronisations(device: torch.device) -> Iterator[Row]:
    needs_gpu(device, "torch.cuda.set_sync_debug_mode; a test counts transfers on pretended tensors")
    trained = training(LARGE[0], device)
    for _ in range(2):
        trained.step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trained.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = Counter(
        f"{one.filename}:{one.lineno}" for one in caught if "synchroniz" in str(one.message).lower()
    )
    yield "line", "synchronisations of a step"
    yield from waits.most_common()
    yield "in all", sum(waits.values())


def dtypes(device: torch.device) -> Iterator[Row]:
    yield "ZeRO", "types that linear and convolutional layers compute in, by calls of a step"
    for stage in range(4):
        trained, found = training(SMALL, device, zero_stage=stage), Counter[str]()
        with recorded_dtypes(trained.engine.network, found):
            trained.step()
        yield stage, ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
        del trained
        free(device)


ATTENTION = {
    # Windows of a batch, heads, cells of a window, channels of a head.
    "scOT-T, first level, batch 32": (128, 3, 256, 16),
    "scOT-L, first level, batch 8": (32, 3, 256, 64),
    "WXFormer, first stage, batch 2": (4096, 4, 16, 32),
    "CREDIT 0.28 degrees, first stage": (2880, 4, 100, 32),
}
BACK_ENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}


def attention(device: torch.device) -> Iterator[Row]:
    """Forward and backward pass with a bias that has a gradient [ms]."""
    yield "shape (Z, h, M, d)", "as trained", *BACK_ENDS
    shapes = ATTENTION if device.type == "cuda" else {"small": (16, 2, 64, 16)}
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for name, (windows, heads, cells, dim) in shapes.items():
        q, k, v = (
            torch.randn(windows, heads, cells, dim, device=device, dtype=dtype, requires_grad=True)
            for _ in range(3)
        )
        bias = torch.randn(heads, cells, cells, device=device, requires_grad=True)
        ours = _timed(partial(masked_attention, mask_nMM=None), (q, k, v, bias), device)
        yield (
            f"{name} {(windows, heads, cells, dim)}",
            ours,
            *(_by_back_end(back_end, (q, k, v, bias), device) for back_end in BACK_ENDS.values()),
        )


def _by_back_end(back_end: SDPBackend, given: tuple[Tensor, ...], device: torch.device) -> str:
    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, bias[None].to(q.dtype), scale=1.0)

    try:
        # PyTorch says in warnings why a back end refuses.
        with warnings.catch_warnings(), sdpa_kernel(back_end):
            warnings.simplefilter("ignore")
            return _timed(attend, given, device)
    except torch.OutOfMemoryError:
        return "out of memory"
    except RuntimeError:
        return "refused"


def _timed(attend: Callable[..., Tensor], given: tuple[Tensor, ...], device: torch.device) -> str:
    def call() -> None:
        torch.autograd.grad(attend(*given).float().square().sum(), given)

    return f"{1e3 * seconds(call, device, 10):.3g}"


def weight_bytes(device: torch.device) -> Iterator[Row]:
    needs_gpu(device, "the host's allocator does not tell the bytes of tensors")
    yield "network", "weights", "bytes a weight after a step (16 expected: weights, gradients, two moments)"
    for subject in LARGE[:3]:
        free(device)
        before = torch.cuda.memory_allocated(device)
        trained = training(subject, device)
        trained.step()
        synchronise(device)
        weights = sum(weight.numel() for weight in trained.engine.network.parameters())
        held = torch.cuda.memory_allocated(device) - before - 9 * _values(subject)
        yield subject.name, weights, f"{held / weights:.2f}"
        del trained


def _values(subject: Subject) -> int:
    """Values of a batch's targets; inputs and targets take 4 bytes each, the mask one."""
    height, width = subject.shape
    return subject.micro_batch * subject.channels * height * width


def transfers(device: torch.device) -> Iterator[Row]:
    needs_gpu(device, "nothing to copy to")
    yield "256 MiB from the host", "[GB/s]"
    size = 1 << 28
    target = torch.empty(size, dtype=torch.uint8, device=device)
    pageable = torch.empty(size, dtype=torch.uint8)
    pinned = pageable.pin_memory()
    for name, source in (("pageable", pageable), ("pinned", pinned)):
        taken = seconds(partial(target.copy_, source, non_blocking=True), device)
        yield name, f"{size / taken / 1e9:.3g}"
    yield from _overlapped(device, target, pinned)


def _overlapped(device: torch.device, target: Tensor, source: Tensor) -> Iterator[Row]:
    """What a copy costs beside products that take about as long."""
    factor = torch.randn(4096, 4096, device=device, dtype=torch.bfloat16)
    copying = seconds(partial(target.copy_, source, non_blocking=True), device)
    times = max(1, round(copying / seconds(lambda: factor @ factor, device)))
    stream = torch.cuda.Stream(device)

    def compute() -> None:
        for _ in range(times):
            torch.mm(factor, factor)

    def in_turn() -> None:
        target.copy_(source, non_blocking=True)
        compute()

    def at_once() -> None:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        compute()
        torch.cuda.current_stream(device).wait_stream(stream)

    computing, one, two = (seconds(call, device) for call in (compute, in_turn, at_once))
    yield "products alone [ms]", f"{1e3 * computing:.3g}"
    yield "copy, then products [ms]", f"{1e3 * one:.3g}"
    yield "copy on a stream of its own [ms]", f"{1e3 * two:.3g}"
    yield "of the copy's time hidden", f"{(one - two) / copying:.0%}"


def compiled(device: torch.device) -> Iterator[Row]:
    try:
        check_compiler(device.type)
    except ConfigError as error:
        raise SkippedError(str(error)) from error
    needs_gpu(device, "compiling for a CPU takes minutes, and says nothing of GPUs")
    yield "network", "eager [ms]", "blocks compiled [ms]", "eager / compiled", "time to compile [s]"
    # The others have the same kinds of blocks, and more of them to compile.
    subject = LARGE[0]
    eager = seconds(training(subject, device).step, device)
    free(device)
    trained, before = training(subject, device, compile="blocks"), time.perf_counter()
    # The first step checks the precision; the second one compiles.
    trained.step()
    trained.step()
    synchronise(device)
    taken = time.perf_counter() - before
    fast = seconds(trained.step, device)
    yield subject.name, f"{1e3 * eager:.4g}", f"{1e3 * fast:.4g}", f"{eager / fast:.2f}", f"{taken:.0f}"


def busy(device: torch.device) -> Iterator[Row]:
    needs_gpu(device, "its kernels are what is profiled")
    yield "network", "share of time with a kernel running", "kernels of a step"
    for subject in LARGE:
        trained = training(subject, device)
        seconds(trained.step, device, 3)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            before = time.perf_counter()
            for _ in range(3):
                trained.step()
            synchronise(device)
            taken = time.perf_counter() - before
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in recorded.events() or ()
            # Annotations, such as that of an optimiser's step, span the kernels in them and what lies between.
            if event.device_type.name == "CUDA" and not event.is_user_annotation
        )
        yield subject.name, f"{_covered(spans) / 1e6 / taken:.0%}", len(spans) // 3
        del trained
        free(device)


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """The length of the union of intervals, which are sorted."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def utilisation(device: torch.device) -> Iterator[Row]:
    peak = _peak(device)
    yield (
        "network",
        "micro-batch",
        "operations of a step",
        "step [ms]",
        "samples/s",
        f"of {peak / 1e12:.3g} TFLOP/s",
    )
    for subject in subjects(device):
        taken = seconds(training(subject, device).step, device)
        flops = subject.flops()
        yield (
            subject.name,
            subject.micro_batch,
            f"{flops:.3g}",
            f"{1e3 * taken:.4g}",
            f"{subject.micro_batch / taken:.4g}",
            f"{flops / taken / peak:.1%}",
        )
        free(device)


def _peak(device: torch.device) -> float:
    """The data sheet's operations per second, or those of a matrix product where the name is not known."""
    if device.type != "cuda":
        return matmul_flops(device)
    name = torch.cuda.get_device_name(device)
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    return known or matmul_flops(device, torch.bfloat16)


def estimates(device: torch.device) -> Iterator[Row]:
    needs_gpu(
        device,
        "`pelagos check --gpus 1` can be compared with nothing; its tests compare it with counts by hand",
    )
    yield "network", "estimated [GB]", "measured [GB]", "estimated / measured", f"within {BAR:.0%}"
    # The command takes the GPU's memory in a process of its own.
    free(device)
    far = []
    with tempfile.TemporaryDirectory(prefix="pelagos-bench-") as name:
        path = _store(Path(name))
        for subject in LARGE:
            estimated, measured = _estimated_and_measured(subject, Path(name), path)
            ratio = estimated / measured
            if abs(ratio - 1) > BAR:
                far.append(subject.name)
            within = "no" if abs(ratio - 1) > BAR else "yes"
            yield subject.name, f"{estimated / 1e9:.2f}", f"{measured / 1e9:.2f}", f"{ratio:.2f}", within
    if far:
        raise RuntimeError(f"estimates of {', '.join(far)} are further than {BAR:.0%} from what was measured")


def _store(folder: Path) -> Path:
    size = {"num_trajectories": 4, "shape": (128, 128), "num_frames": 12, "interval": 0.02}
    trajectories = simulate(SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size}))
    well_writer.write(trajectories, folder / "wave.hdf5")
    return build(
        BuildConfig.model_validate(
            {
                "dataset": "wave",
                "source": {"kind": "the_well", "paths": str(folder / "wave.hdf5")},
                "root": str(folder / "stores"),
                "splits": {"kind": "trajectories", "valid": 1},
            }
        )
    )


def _estimated_and_measured(subject: Subject, folder: Path, store: Path) -> tuple[float, float]:
    """Peak bytes of a training step's tensors, by `pelagos check`."""
    config = folder / f"{subject.name}.yaml"
    values: dict[str, Any] = {
        "command": "pretrain",
        "output": str(folder / subject.name),
        "network": json.loads(json.dumps(subject.network)),
        "data": [{"path": str(store)}],
        "loop": {"steps": 2, "batch_size": subject.micro_batch, "micro_batch": subject.micro_batch},
        "engine": {"precision": "bf16"},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
    }
    config.write_text(yaml.safe_dump(values))
    command = [
        sys.executable,
        "-m",
        "pelagos.pipeline",
        "check",
        str(config),
        "--gpus",
        "1",
        "--deep",
        "--json",
    ]
    # This process has met itself, and told so there.
    alone = {name: value for name, value in os.environ.items() if name not in _RENDEZVOUS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    if done.returncode:
        raise RuntimeError(f"pelagos check of {subject.name}: {done.stderr.strip()[-2000:]}")
    found = json.loads(done.stdout[done.stdout.index("{") :])["findings"]
    estimated = next(one["bytes"] for one in found if one["about"] == "GPU memory")
    measured = next(one["bytes"] for one in found if one["about"] == "peak GPU memory")
    return float(estimated), float(measured)


def free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


PARTS: dict[str, tuple[str, Callable[[torch.device], Iterator[Row]]]] = {
    "machine": ("The machine", machine),
    "synchronisations": ("Where a step waits for the device", synchronisations),
    "dtypes": ("Precision inside each ZeRO stage, bf16 configured", dtypes),
    "attention": ("Attention with a bias, forward and backward [ms]", attention),
    "weights": ("Bytes a weight", weight_bytes),
    "transfers": ("Copies from host to device", transfers),
    "busy": ("How busy the device is", busy),
    "utilisation": ("Model FLOP utilisation, bf16, eager", utilisation),
    "estimates": ("Memory that check --gpus 1 estimates", estimates),
    "compiled": ("Compiled blocks", compiled),
}


def run_part(name: str, device: torch.device) -> str:
    """Print a part's table; returns what failed, an empty text if nothing did."""
    title, part = PARTS[name]
    print(f"\n## {title}\n", flush=True)
    before = time.perf_counter()
    try:
        for number, row in enumerate(part(device)):
            print(line(row) if number else heading([str(cell) for cell in row]), flush=True)
    except SkippedError as reason:
        print(f"skipped: {reason}")
        return ""
    except Exception as error:
        # Whatever it is, the other parts' figures are worth having; the exit code tells.
        traceback.print_exc()
        print(f"failed: {type(error).__name__}: {error}")
        return f"{name}: {type(error).__name__}: {error}"
    finally:
        free(device)
        print(f"\n({time.perf_counter() - before:.0f} s)", flush=True)
    return ""


def main() -> None:
    """Print all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    names = parser.parse_args().only
    distributed.start()
    begun, failed = time.monotonic(), list[str]()
    for name in names:
        if time.monotonic() - begun > LIMIT:
            print(f"\n## {PARTS[name][0]}\n\nskipped: no time left; --only {name} runs it alone")
        elif found := run_part(name, distributed.device()):
            failed.append(found)
    distributed.stop()
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
