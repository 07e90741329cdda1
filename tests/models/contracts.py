"""NetworkContract: what every network promises. A network joins with a subclass of a few lines:

    class TestUNet(NetworkContract):
        sizes = ((16, 16), (13, 22))

        def build(self, signature, **options):
            return UNetConfig(width=8, **options).build(signature)

Shapes: B samples, C channels, H rows, W columns, S scalars.
"""

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.adapt import Adaptable, adapt
from pelagos.models.context import Context, Signature
from pelagos.models.layers.network_layers import layer_numbers, layers_of
from pelagos.preprocessing.errors import DataError

BATCH = 3


class NetworkContract:
    """The suite; subclasses give `build` and say what their network can do.

    Attributes:
        signature: what the network is built for; `shape` is a size that every network must serve.
        sizes: (H, W) that must be served without rebuilding, odd ones if the network promises any grid.
        refused: (H, W) that must be refused with an error that names both sides.
        periodic: which axes wrap in the calls.
        checkpointing: whether `build(signature, checkpointing=True)` exists.
        identity_at_zero: whether lead time zero must give the input back.
        conditioned: whether lead time and scalars matter; published forms of one time step know neither.
        any_variables: whether a call may select some of the signature's variables.
        fixed_variables: why it takes no other variables in fine-tuning, if so.
        without_gradient: parameters that may stay without a gradient at the first step, with a reason beside.
        compiled: options of the network that is compiled as one graph, to spare time.
        float32_atol: of outputs in float32 against float64, relative to the outputs' scale.
    """

    signature = Signature(
        inputs=("density", "velocity_x", "velocity_y", "mask"),
        outputs=("density", "velocity_x", "velocity_y", "vorticity"),
        scalars=("viscosity", "forcing"),
        shape=(16, 16),
    )
    sizes: tuple[tuple[int, int], ...] = ((16, 16),)
    refused: tuple[tuple[int, int], ...] = ()
    periodic: tuple[bool, bool] = (False, True)
    checkpointing = False
    identity_at_zero = False
    conditioned = True
    any_variables = False
    fixed_variables = ""
    without_gradient: frozenset[str] = frozenset()
    compiled: Mapping[str, Any] = MappingProxyType({})
    float32_atol = 1e-4

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        """The network under test, small; `options` go to its configuration."""
        raise NotImplementedError

    def network(self, signature: Signature | None = None, **options: Any) -> nn.Module:
        """A network whose weights are always the same, in train mode."""
        torch.manual_seed(0)
        return self.build(signature or self.signature, **options)

    def context(self, batch: int = BATCH, dtype: torch.dtype = torch.float32) -> Context:
        """All variables, given scalars of which one is missing."""
        scalars = torch.linspace(0.5, 2, batch * len(self.signature.scalars), dtype=dtype)
        scalars_BS = scalars.reshape(batch, len(self.signature.scalars))
        if scalars_BS.numel():
            scalars_BS[0, 0] = torch.nan
        return Context(periodic=self.periodic, scalars=scalars_BS)

    def sample(
        self, size: tuple[int, int] | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Fields and lead times."""
        generator = torch.Generator().manual_seed(1)
        shape = (BATCH, len(self.signature.inputs), *(size or self.signature.shape or (16, 16)))
        x_BCHW = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x_BCHW.to(dtype), torch.linspace(0.2, 0.9, BATCH, dtype=dtype)

    # Shapes and errors

    def test_output_has_the_shape_of_the_signature_at_every_size(self) -> None:
        net = self.network().eval()
        for size in self.sizes:
            x_BCHW, time_B = self.sample(size)
            with torch.no_grad():
                y_BCHW = net(x_BCHW, time_B, self.context())
            assert y_BCHW.shape == (BATCH, len(self.signature.outputs), *size)
            assert torch.isfinite(y_BCHW).all()

    def test_network_tells_its_signature(self) -> None:
        assert self.network().signature == self.signature

    def test_only_the_first_layer_depends_on_inputs_and_only_the_last_on_outputs(self) -> None:
        """Fine-tuning gives these two rates of their own, and the layers between rates by their order."""
        own = self.signature
        others = [
            replace(own, inputs=(*own.inputs[:-1], "more", "other")),
            replace(own, outputs=(*own.outputs[:-1], "more", "other")),
        ]
        with torch.device("meta"):
            net, *changed = (self.build(signature) for signature in (own, *others))
        layers = layers_of(net)
        assert layers is not None
        numbers = layer_numbers(layers, dict(net.named_parameters()))
        assert {0, len(layers) - 1} <= set(numbers.values())
        for expected, other in zip((0, len(layers) - 1), changed, strict=True):
            shapes = {name: parameter.shape for name, parameter in other.named_parameters()}
            differ = {numbers[name] for name, p in net.named_parameters() if shapes[name] != p.shape}
            assert differ == {expected}

    def test_call_without_context_takes_all_variables_in_order(self) -> None:
        net = self.network().eval()
        x_BCHW, time_B = self.sample()
        missing = torch.full((BATCH, len(self.signature.scalars)), torch.nan)
        every = Context(
            inputs=tuple(range(len(self.signature.inputs))),
            outputs=tuple(range(len(self.signature.outputs))),
            residual=(0, 1, 2, -1),
            scalars=missing,
        )
        with torch.no_grad():
            assert_close(net(x_BCHW, time_B), net(x_BCHW, time_B, every), rtol=0, atol=0)

    def test_wrong_number_of_channels_is_an_error_that_names_both(self) -> None:
        x_BCHW, time_B = self.sample()
        with pytest.raises(ValueError, match=r"\b5\b.*\b4\b|\b4\b.*\b5\b"):
            self.network()(torch.cat([x_BCHW, x_BCHW[:, :1]], 1), time_B, self.context())

    def test_sizes_that_cannot_be_served_are_an_error_that_names_both(self) -> None:
        net = self.network()
        for height, width in self.refused:
            x_BCHW, time_B = self.sample((height, width))
            with pytest.raises(ValueError, match=rf"\b({height}|{width})\b") as caught:
                net(x_BCHW, time_B, self.context())
            numbers = {int(word) for word in _numbers(str(caught.value))}
            assert numbers - {height, width}, f"{caught.value} does not say what would be right"

    def test_a_call_may_select_variables(self) -> None:
        if not self.any_variables:
            pytest.skip("the network takes all of its variables")
        net = self.network().eval()
        x_BCHW, time_B = self.sample()
        full = self.context()
        some = Context((2, 0), (0, 3), (1, -1), full.periodic, full.scalars)
        with torch.no_grad():
            y_BCHW = net(x_BCHW[:, [2, 0]], time_B, some)
        assert y_BCHW.shape[1] == 2
        assert torch.isfinite(y_BCHW).all()

    # Other variables

    def other_signature(self) -> Signature:
        """Known variables in another order, and new ones among them."""
        own = self.signature
        return replace(
            own,
            inputs=("tracer", *own.inputs[::-1]),
            outputs=(*own.outputs[::-1], "tracer"),
            scalars=("drag", *own.scalars) if own.scalars else (),
        )

    def adapted(self) -> tuple[nn.Module, nn.Module]:
        """The network, and one with other variables that has its weights, both in float64."""
        known, new = self.network().double(), self.network(self.other_signature()).double()
        state, _ = adapt(known.state_dict(), self.signature, cast(Adaptable, new))
        new.load_state_dict(state)
        return known.eval(), new.eval()

    def test_new_variables_leave_forecasts_of_known_ones_alone(self) -> None:
        """What fine-tuning on a store with other fields and parameters begins with."""
        if self.fixed_variables:
            with pytest.raises(DataError, match=self.fixed_variables):
                self.adapted()
            return
        known, new = self.adapted()
        (x_BCHW, time_B), context = self.sample(dtype=torch.float64), self.context(dtype=torch.float64)
        own, other = self.signature, self.other_signature()
        assert context.scalars is not None
        unknown = torch.full_like(context.scalars[:, :1], torch.nan)
        given = replace(
            context,
            inputs=tuple(other.inputs.index(name) for name in own.inputs),
            outputs=tuple(other.outputs.index(name) for name in own.outputs),
            scalars=torch.cat([unknown, context.scalars], 1) if own.scalars else context.scalars,
        )
        with torch.no_grad():
            assert_close(new(x_BCHW, time_B, given), known(x_BCHW, time_B, context), rtol=0, atol=1e-9)

    def test_with_new_variables_it_learns_from_the_first_step(self) -> None:
        if self.fixed_variables:
            pytest.skip("it takes no others")
        new, other = self.adapted()[1].float().train(), self.other_signature()
        x_BCHW, time_B = self.sample()
        scalars = torch.full((BATCH, len(other.scalars)), 0.5)
        fields = torch.cat([x_BCHW, x_BCHW[:, :1]], 1)
        y_BCHW = new(fields, time_B, Context(periodic=self.periodic, scalars=scalars))
        (y_BCHW - torch.randn_like(y_BCHW)).square().mean().backward()
        torch.optim.AdamW(new.parameters(), lr=1e-3).step()
        assert all(torch.isfinite(parameter).all() for parameter in new.parameters())
        with torch.no_grad():
            assert torch.isfinite(new(fields, time_B, Context(periodic=self.periodic, scalars=scalars))).all()

    # What depends on what

    def test_every_parameter_gets_a_gradient_at_the_first_step(self) -> None:
        net = self.network()
        x_BCHW, time_B = self.sample()
        y_BCHW = net(x_BCHW, time_B, self.context())
        (y_BCHW * torch.randn_like(y_BCHW)).sum().backward()
        for name, parameter in net.named_parameters():
            if name in self.without_gradient:
                continue
            assert parameter.grad is not None, f"{name} has no gradient"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
            assert parameter.grad.abs().max() > 0, f"the gradient of {name} is zero"

    def test_samples_of_a_batch_do_not_see_each_other(self) -> None:
        net = self.network().double().eval()
        x_BCHW, time_B = self.sample(dtype=torch.float64)
        context = self.context(dtype=torch.float64)
        assert context.scalars is not None
        with torch.no_grad():
            together = net(x_BCHW, time_B, context)
            for i in range(BATCH):
                one = Context(periodic=self.periodic, scalars=context.scalars[i : i + 1])
                alone = net(x_BCHW[i : i + 1], time_B[i : i + 1], one)
                assert_close(alone, together[i : i + 1], rtol=1e-10, atol=1e-10)

    def test_lead_time_and_scalars_matter(self) -> None:
        if not self.conditioned:
            pytest.skip("the network knows one time step")
        net = self.network().double().eval()
        x_BCHW, time_B = self.sample(dtype=torch.float64)
        context = self.context(dtype=torch.float64)
        assert context.scalars is not None
        other = Context(periodic=self.periodic, scalars=context.scalars * 3)
        with torch.no_grad():
            y_BCHW = net(x_BCHW, time_B, context)
            assert (net(x_BCHW, time_B / 2, context) - y_BCHW).abs().max() > 1e-8
            if self.signature.scalars:
                assert (net(x_BCHW, time_B, other) - y_BCHW).abs().max() > 1e-8

    def test_zero_lead_time_gives_the_input_back(self) -> None:
        if not self.identity_at_zero:
            pytest.skip("not promised by this network")
        x_BCHW, time_B = self.sample()
        y_BCHW = self.network()(x_BCHW, torch.zeros_like(time_B), self.context())
        assert_close(y_BCHW[:, :3], x_BCHW[:, :3], rtol=0, atol=0)

    # Numbers

    def test_same_seed_gives_the_same_network_and_output(self) -> None:
        x_BCHW, time_B = self.sample()
        with torch.no_grad():
            first, second = (self.network().eval()(x_BCHW, time_B, self.context()) for _ in range(2))
        assert_close(first, second, rtol=0, atol=0)

    def test_float32_agrees_with_float64(self) -> None:
        outputs = {}
        for dtype in (torch.float32, torch.float64):
            x_BCHW, time_B = self.sample(dtype=dtype)
            with torch.no_grad():
                outputs[dtype] = self.network().to(dtype).eval()(x_BCHW, time_B, self.context(dtype=dtype))
            assert outputs[dtype].dtype == dtype
        exact = outputs[torch.float64]
        atol = self.float32_atol * float(exact.abs().max())
        assert_close(outputs[torch.float32].double(), exact, rtol=0, atol=atol)

    def test_bf16_autocast_is_finite_far_from_zero_mean(self) -> None:
        net = self.network()
        x_BCHW, time_B = self.sample()
        with torch.autocast("cpu", torch.bfloat16):
            y_BCHW = net(x_BCHW + 3000, time_B, self.context())
        assert torch.isfinite(y_BCHW).all()
        y_BCHW.float().square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)

    def test_bf16_autocast_without_gradients_agrees_with_training(self) -> None:
        net = self.network().eval()
        x_BCHW, time_B = self.sample()
        with torch.autocast("cpu", torch.bfloat16):
            trained = net(x_BCHW, time_B, self.context()).detach().float()
            with torch.no_grad():
                evaluated = net(x_BCHW, time_B, self.context()).float()
        assert_close(evaluated, trained, rtol=0, atol=0.05 * float(trained.abs().max()))

    # Where and how it runs

    def test_weights_survive_safetensors(self, tmp_path: Path) -> None:
        net = self.network().eval()
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "net.safetensors")
        torch.manual_seed(5)
        other = self.build(self.signature).eval()
        other.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
        x_BCHW, time_B = self.sample()
        with torch.no_grad():
            assert_close(
                other(x_BCHW, time_B, self.context()), net(x_BCHW, time_B, self.context()), rtol=0, atol=0
            )

    def test_construction_on_the_meta_device_allocates_nothing(self) -> None:
        with torch.device("meta"):
            net = self.build(self.signature)
        listing = {name: (value.shape, value.dtype) for name, value in net.state_dict().items()}
        assert listing == {k: (v.shape, v.dtype) for k, v in self.network().state_dict().items()}
        assert all(value.is_meta for value in net.state_dict().values())

    def test_activation_checkpointing_changes_nothing(self) -> None:
        if not self.checkpointing:
            pytest.skip("the network has no activation checkpointing")
        x_BCHW, time_B = self.sample(dtype=torch.float64)
        outputs, gradients = [], []
        for checkpointing in (False, True):
            net = self.network(checkpointing=checkpointing).double()
            y_BCHW = net(x_BCHW, time_B, self.context(dtype=torch.float64))
            y_BCHW.square().sum().backward()
            outputs.append(y_BCHW)
            gradients.append({k: p.grad for k, p in net.named_parameters()})
        assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)
        assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)

    def test_one_graph_gives_the_same_outputs_and_gradients(self) -> None:
        self._compare_compiled("eager", **self.compiled)

    @pytest.mark.slow
    def test_compiled_code_gives_the_same_outputs_and_gradients(self) -> None:
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            pytest.skip("torch.compile needs a C++ compiler")
        self._compare_compiled("inductor", **self.compiled)

    def _compare_compiled(self, backend: str, **options: Any) -> None:
        net = self.network(**options).double()
        x_BCHW, time_B = self.sample(dtype=torch.float64)
        context = self.context(dtype=torch.float64)
        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler warns of its own internals
            compiled = torch.compile(net, fullgraph=True, backend=backend)
            results = []
            for call in (net, compiled):
                net.zero_grad()  # sets gradients to None, so that those of the first call stay
                y_BCHW = call(x_BCHW, time_B, context)
                y_BCHW.square().sum().backward()
                results.append((y_BCHW.detach(), {k: p.grad for k, p in net.named_parameters()}))
        assert_close(results[0], results[1], rtol=1e-8, atol=1e-8)


def _numbers(text: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in text).split()
