"""Listings answer what formats ask of an archive."""

from pathlib import Path

from pelagos.preprocessing.sources.finding import ArchiveListing


def test_a_listing_tells_what_it_has_and_describes_no_more() -> None:
    shapes = {"u": (2, 3, 4), "group/t": (3,)}
    listing = ArchiveListing(Path("a.h5"), "a.h5", "hdf5", shapes, {"u": "<f4", "group/t": "<f8"})
    assert (listing.rank("u"), listing.rank("group/t"), listing.rank("v")) == (3, 1, -1)
    assert listing.has("u", "group/t")
    assert not listing.has("u", "v")
    assert listing.describe("group/t", "v", "u") == "group/t (3,), u (2, 3, 4)"
