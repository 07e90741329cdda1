from pathlib import Path

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.partition import Part, check_partition, chunk_of
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.errors import DataError


def test_a_plan_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    plan = make_plan(configuration(tmp_path, shard_bytes=8192))
    parts, layout = plan.parts, plan.state
    assert [part.trajectories for part in parts] == [(0, 3), (3, 6)]
    check_partition(parts, layout)
    with pytest.raises(DataError, match=r"shard \(1, 0\) belongs to no part"):
        check_partition(parts[:1], layout)
    with pytest.raises(DataError, match=r"shard \(0, 0\) belongs to more than one part"):
        check_partition([*parts, parts[0]], layout)
    misaligned = Part(cell=(1, 0), trajectories=(2, 5), times=(0, 5))
    with pytest.raises(DataError, match=r"part 1\.0 covers trajectories \(2, 5\).*its shard is.*\(3, 6\)"):
        check_partition([parts[0], misaligned], layout)
    with pytest.raises(DataError, match=r"part 2\.0 is outside"):
        check_partition([*parts, Part(cell=(2, 0), trajectories=(6, 9), times=(0, 5))], layout)


def test_shards_hold_whole_trajectories_or_blocks_of_time(tmp_path: Path) -> None:
    # A frame of two channels of 8 x 8 points has 512 bytes, a trajectory of 5 frames 2560.
    shards = {
        bytes_: make_plan(configuration(tmp_path, shard_bytes=bytes_)).state.shard[:2]
        for bytes_ in (100, 1000, 1280, 2560, 5120, 10**9)
    }
    assert shards == {100: (1, 1), 1000: (1, 2), 1280: (1, 5), 2560: (1, 5), 5120: (2, 5), 10**9: (6, 5)}


@pytest.mark.parametrize(
    ("frame", "chunk"),
    [
        ((4, 128, 128), (4, 128, 128)),
        ((5, 512, 512), (1, 512, 512)),
        ((69, 721, 1440), (1, 103, 1440)),  # 721 = 7 x 103
        ((3, 181, 360), (3, 181, 360)),
        ((3, 1801, 3600), (1, 53, 3600)),  # 1801 is a prime; 34 x 53 = 1802
        ((2, 1059, 1799), (1, 106, 1799)),  # 3 x 353; 10 x 106 = 1060
        ((1, 1, 1 << 20), (1, 1, 1 << 20)),
        ((0, 721, 1440), (0, 721, 1440)),
    ],
)
def test_chunks_are_frames_or_channels_or_rows_of_a_mebibyte_at_most(
    frame: tuple[int, int, int], chunk: tuple[int, int, int]
) -> None:
    assert chunk_of(frame) == chunk


def test_chunks_of_rows_take_between_a_quarter_and_all_of_the_largest_size() -> None:
    for height in range(2, 3000, 7):
        for width in (1000, 1440, 3600):
            channels, rows, _ = chunk_of((2, height, width))
            if rows < height:
                assert channels == 1
                assert 1 << 18 <= 4 * rows * width <= 1 << 20
                assert -height % rows <= 0.05 * height


def test_static_fields_count_as_part_of_what_a_task_writes(tmp_path: Path) -> None:
    # A frame of two channels has 512 bytes and the static field of a trajectory 256.
    plan = make_plan(configuration(tmp_path, {"static": "varying", "times": 1}, shard_bytes=3072))
    assert (plan.state.shard[0], plan.static.shard[0]) == (4, 4)
    plan = make_plan(configuration(tmp_path, {"static": "common", "times": 1}, shard_bytes=3072))
    assert plan.state.shard[0] == 6
