"""What is said of the processor, by what PyTorch reports of it."""

import pytest

from pelagos.models.layers import cpu_features


@pytest.mark.parametrize(
    ("reported", "amd_with_avx512", "amx"),
    [
        ({"cpu_name": "AMD EPYC 9654", "avx512_f": True, "amx_bf16": False}, True, False),
        ({"cpu_name": "AMD EPYC 7763", "avx512_f": False, "amx_bf16": False}, False, False),
        ({"cpu_name": "Intel Xeon Platinum 8480", "avx512_f": True, "amx_bf16": True}, False, True),
        ({"cpu_name": "Apple M2"}, False, True),
        ({}, False, True),
    ],
)
def test_nothing_is_claimed_that_pytorch_does_not_report(
    monkeypatch: pytest.MonkeyPatch, reported: dict[str, object], amd_with_avx512: bool, amx: bool
) -> None:
    monkeypatch.setattr(cpu_features, "_capabilities", lambda: reported)
    assert cpu_features.is_amd_with_avx512() is amd_with_avx512
    assert cpu_features.may_have_amx() is amx


def test_this_processor_can_be_asked() -> None:
    assert isinstance(cpu_features.is_amd_with_avx512(), bool)
    assert isinstance(cpu_features.may_have_amx(), bool)
