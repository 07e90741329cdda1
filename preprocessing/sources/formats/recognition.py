"""Recognition: what the formats take an unknown archive for, from its keys, shapes and attributes alone."""

from pathlib import Path
from typing import get_args

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.sources.finding import ArchiveListing, Confidence, Finding
from pelagos.preprocessing.sources.formats.list_archive import list_archive
from pelagos.preprocessing.sources.formats.source import FORMATS


def recognise(path: str | Path) -> tuple[ArchiveListing, list[Finding]]:
    """An archive's listing, and what the formats take it for, the most confident first.

    Args:
        path: a file, a store or its URL, a folder of files of one kind, or a pattern.

    Raises:
        MissingFileError: there is nothing.
        DamagedFileError: what is there cannot be read.
        DataError: a folder holds files of several kinds, or none.
    """
    # What is left out is told when the archive is opened; here it is not known yet by which format.
    with collect():
        listing = list_archive(path)
    found = [finding for kind in FORMATS if (finding := kind.recognise(listing))]
    order = get_args(Confidence)
    found.sort(key=lambda finding: order.index(finding.confidence))
    sure = bool(found) and found[0].confidence == "certain"
    # Where one format is certain, mere possibilities would only confuse.
    return listing, [finding for finding in found if not sure or finding.confidence != "possible"]
