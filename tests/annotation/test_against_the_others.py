from __future__ import annotations

import numpy as np

from equipoise.annotation.consensus import against_the_others
from equipoise.core import Annotation, Case, LabelMap, Reader
from making import SCHEME, blob_case


def read_by(*widths: int) -> Case:
    """A case whose readers drew bars of these widths."""
    case = blob_case("c")
    reads = []
    for number, width in enumerate(widths):
        mask = np.zeros((1, 24, 24, 1), np.uint8)
        mask[0, 4:20, 4 : 4 + width] = 1
        reads.append(Annotation(Reader(f"r{number}"), LabelMap.on(case.image.geometry, mask, SCHEME)))
    return Case("c", "p", case.image, case.truth, reads=tuple(reads))


def test_each_reader_meets_the_majority_of_the_others() -> None:
    pairs = against_the_others(read_by(4, 8, 8))
    areas = [others.mask("blob").sum() // 16 for _, others in pairs]
    # Of widths 8 and 8 both agree on 8; of 4 and 8 half of the two readers, which is enough, marked all 8.
    assert areas == [8, 8, 8]
    assert [read.reader.id for read, _ in pairs] == ["r0", "r1", "r2"]


def test_two_readers_meet_each_other() -> None:
    first, second = (others.mask("blob").sum() // 16 for _, others in against_the_others(read_by(4, 10)))
    assert (first, second) == (10, 4)


def test_one_reader_has_nobody_to_meet() -> None:
    assert against_the_others(read_by(4)) == []
