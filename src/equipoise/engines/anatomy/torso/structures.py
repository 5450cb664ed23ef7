"""The structures of the torso, their SNOMED CT codes, and the index that each object has on the canvas."""

from __future__ import annotations

import numpy as np

from equipoise.core import Label, LabelScheme

_STRUCTURES: tuple[tuple[str, str | None, int], ...] = (
    ("fat", "55603005", 1),
    ("muscle", "127954009", 1),
    ("soft tissue", None, 1),
    ("breast", "76752008", 2),
    ("right upper lobe", "42400003", 1),
    ("right middle lobe", "72481006", 1),
    ("right lower lobe", "266005", 1),
    ("left upper lobe", "44714003", 1),
    ("left lower lobe", "41224006", 1),
    ("lung vessel", None, 1),
    ("airway", "44567001", 1),
    ("myocardium", "74281007", 1),
    ("left ventricle", "87878005", 1),
    ("right ventricle", "53085002", 1),
    ("left atrium", "82471001", 1),
    ("right atrium", "73829009", 1),
    ("aorta", "15825003", 1),
    ("pulmonary artery", "81040000", 1),
    ("vena cava", None, 1),
    ("oesophagus", "32849002", 1),
    ("liver", "10200004", 1),
    ("liver vessel", None, 1),
    ("spleen", "78961009", 1),
    ("right kidney", "9846003", 1),
    ("left kidney", "18639004", 1),
    ("stomach", "69695003", 1),
    ("bowel", "113276009", 1),
    ("pancreas", "15776009", 1),
    ("gallbladder", "28231008", 1),
    ("gas", None, 1),
    ("vertebra", "51282000", 18),
    ("disc", None, 18),
    ("spinal cord", "2748008", 1),
    ("rib", "113197003", 24),
    ("cartilage", None, 20),
    ("sternum", "56873002", 1),
    ("clavicle", "51299004", 2),
    ("scapula", "79601000", 2),
    ("humerus", "85050009", 2),
)
"""Name, SNOMED CT code where we are sure of one, number of objects. Ribs: right 1 to 12, then left 1 to 12."""

SCHEME = LabelScheme(tuple(Label(name, n, code) for n, (name, code, _) in enumerate(_STRUCTURES, 1)))
LOBES = ("right upper lobe", "right middle lobe", "right lower lobe", "left upper lobe", "left lower lobe")

_counts = [count for _, _, count in _STRUCTURES]
CHANNEL = np.concatenate([[0], np.repeat(np.arange(len(_counts)), _counts)])
"""Channel of each index on the canvas; index 0 is air."""
INSTANCE = np.concatenate([[0], *(np.arange(1, n + 1) for n in _counts)])
"""Number of the object within its channel."""
_FIRST = {name: int(first) for (name, _, _), first in zip(_STRUCTURES, np.cumsum([1, *_counts])[:-1], strict=True)}
# Places that get a structure later or become soft tissue: above and below the diaphragm.
MEDIASTINUM, ABDOMEN = 250, 251


def index_of(name: str, number: int = 1) -> int:
    """Return the index of a structure's object on the canvas."""
    return _FIRST[name] + number - 1


def indices_of(*names: str) -> list[int]:
    """Return the indices of all objects of structures."""
    counts = {name: count for name, _, count in _STRUCTURES}
    return [_FIRST[name] + n for name in names for n in range(counts[name])]


__all__ = ["ABDOMEN", "CHANNEL", "INSTANCE", "LOBES", "MEDIASTINUM", "SCHEME", "index_of", "indices_of"]
