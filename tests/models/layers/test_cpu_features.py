"""What is said of the processor, by what PyTorch and Linux report of it."""

import pytest

from pelagos.models.layers import cpu_features


@pytest.mark.parametrize(
    ("reported", "family", "wide", "amx"),
    [
        ({"cpu_name": "AMD EPYC 9755", "avx512_f": True, "amx_bf16": False}, 26, True, False),
        ({"cpu_name": "AMD EPYC 9654", "avx512_f": True, "amx_bf16": False}, 25, False, False),
        ({"cpu_name": "AMD EPYC 7763", "avx512_f": False, "amx_bf16": False}, 25, False, False),
        ({"cpu_name": "AMD EPYC", "avx512_f": True, "amx_bf16": False}, 0, False, False),
        ({"cpu_name": "Intel Xeon Platinum 8480", "avx512_f": True, "amx_bf16": True}, 6, False, True),
        ({"cpu_name": "Apple M2"}, 0, False, True),
        ({}, 0, False, True),
    ],
)
def test_nothing_is_claimed_that_is_not_reported(
    monkeypatch: pytest.MonkeyPatch, reported: dict[str, object], family: int, wide: bool, amx: bool
) -> None:
    monkeypatch.setattr(cpu_features, "_capabilities", lambda: reported)
    monkeypatch.setattr(cpu_features, "_family", lambda: family)
    assert cpu_features.is_amd_with_wide_avx512() is wide
    assert cpu_features.may_have_amx() is amx


def test_this_processor_can_be_asked() -> None:
    assert isinstance(cpu_features.is_amd_with_wide_avx512(), bool)
    assert isinstance(cpu_features.may_have_amx(), bool)
    assert cpu_features._family() >= 0
