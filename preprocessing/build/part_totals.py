"""PartTotals: what the records of all parts of a build say together, taken from one record after the other."""

from collections.abc import Iterable, Iterator

import numpy as np

from pelagos.preprocessing.assumptions import Assumption
from pelagos.preprocessing.build.write_part import PartRecord
from pelagos.preprocessing.channel_statistics.measures import Measures, merge_measures
from pelagos.preprocessing.channel_statistics.rounding import Rounding
from pelagos.preprocessing.store.manifest import ChecksumTable


class PartTotals:
    """The totals of the records of a build, of which no two are in memory: at 0.25 degrees the mask of one takes 72 MB.

    Attributes:
        measures: of all parts together.
        files: checksums of all shards.
        digests: digests of the initial conditions, trajectory by trajectory.
        rounding: (C,) largest relative error of mantissa rounding.
        coding: what 16 bits changed in the state and in the static fields; None in float32.
    """

    measures: Measures

    def __init__(self, records: Iterable[PartRecord]) -> None:
        """The totals of at least one record, in the order of the parts: it decides the last bits."""
        self.files = ChecksumTable()
        self.digests: list[str] = []
        self.rounding = np.zeros(0)
        self.coding: tuple[Rounding, Rounding] | None = None
        self._assumptions: dict[str, Assumption] = {}
        self.measures = merge_measures(self._taken(records))

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What was assumed while the parts were read, each text once."""
        return tuple(self._assumptions.values())

    def _taken(self, records: Iterable[PartRecord]) -> Iterator[Measures]:
        for number, record in enumerate(records):
            self.files.add(record.files.items())
            self.digests += record.initial_digests
            self.rounding = np.maximum(self.rounding, record.rounding) if number else record.rounding
            self._add_coding(record.coding)
            for one in record.assumptions:
                self._assumptions.setdefault(str(one), one)
            yield record.measures

    def _add_coding(self, found: tuple[Rounding, Rounding] | None) -> None:
        if found is not None:
            held = self.coding or tuple(Rounding.none(len(one.count)) for one in found)
            self.coding = (held[0].merge(found[0]), held[1].merge(found[1]))
