import os

from pelagos.preprocessing.loading.shared_memory import SharedMemory, mapped


def test_what_one_view_writes_another_reads() -> None:
    memory = SharedMemory(5)
    assert memory.values.tolist() == [0] * 5
    view = mapped(memory.descriptor, 5)
    view[2] = 7
    assert memory.values.tolist() == [0, 0, 7, 0, 0]


def test_the_descriptor_is_closed_with_the_memory_and_views_stay() -> None:
    memory = SharedMemory(2)
    view, descriptor = mapped(memory.descriptor, 2), memory.descriptor
    del memory
    assert not os.path.exists(f"/proc/self/fd/{descriptor}")
    view[0] = 3
    assert view.tolist() == [3, 0]
