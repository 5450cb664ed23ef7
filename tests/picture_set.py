"""A small set of pictures on the disk, for tests of everything that reads one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 48

PLAN_HEAD = """
title = "Blobs"
[data]
kind = "folder"
path = "blobs"
labels = { blob = "mask" }
patient = "patient"
[split]
train = 0.4
validation = 0.2
test = 0.4
[arms]
sizes = [2]
"""
"""The plan of an experiment on a `PictureSet` in the folder ``blobs``, up to its arms."""


def anatomy(seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random texture, rows x columns, with a bright lopsided blob, and the blob."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    cy, cx = rng.uniform(0.25, 0.4, 2)
    blob = ((y - cy) / 0.15) ** 2 + ((x - cx) / 0.22) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal((side, side)), 2.5)
    picture = 110 + 40 * texture / np.abs(texture).max() + 60 * blob + 1.5 * rng.standard_normal((side, side))
    return np.clip(picture, 0, 255).astype(np.uint8), (255 * blob).astype(np.uint8)


@dataclass
class PictureSet:
    """A folder of pictures with a table; rows can be changed before it is written."""

    root: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    def png(self, name: str, array: np.ndarray) -> str:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(self.root / name)
        return name

    def add(self, name: str, patient: str, image: np.ndarray, mask: np.ndarray, site: str = "A") -> None:
        files = self.png(f"images/{name}.png", image), self.png(f"masks/{name}.png", mask)
        self.rows.append({"id": name, "image": files[0], "mask": files[1], "patient": patient, "site": site})

    def write(self) -> None:
        """Write the table."""
        columns = list(self.rows[0])
        lines = [",".join(columns), *(",".join(row[c] for c in columns) for row in self.rows)]
        (self.root / "index.csv").write_text("\n".join(lines) + "\n")

    @classmethod
    def of_patients(cls, root: Path, count: int = 10) -> PictureSet:
        """Return a set that is written, of one picture of each patient."""
        made = cls(root)
        for n in range(count):
            made.add(f"c{n}", f"p{n}", *anatomy(n))
        made.write()
        return made

    def image(self, n: int) -> Path:
        return self.root / self.rows[n]["image"]

    def mask(self, n: int) -> Path:
        return self.root / self.rows[n]["mask"]
