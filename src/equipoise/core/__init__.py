"""The types that everything else speaks in. Needs numpy only."""

from equipoise.core.case import Case, Origin, patients_of
from equipoise.core.contracts import Anatomy, Augment, Engine, FitRecord, Learner, Predictor
from equipoise.core.geometry import Geometry
from equipoise.core.image import Image, LazyVoxels, Voxels
from equipoise.core.labels import ClassLabel, Label, LabelMap, LabelScheme
from equipoise.core.mix import Arm, Draw, Mix, Stream, TrainingSet
from equipoise.core.people import Annotation, Reader
from equipoise.core.random import rng_for, seed_for
from equipoise.core.split import Split, check_no_leak, size_strata, split_patients

__all__ = [
    "Anatomy",
    "Annotation",
    "Arm",
    "Augment",
    "Case",
    "ClassLabel",
    "Draw",
    "Engine",
    "FitRecord",
    "Geometry",
    "Image",
    "Label",
    "LabelMap",
    "LabelScheme",
    "LazyVoxels",
    "Learner",
    "Mix",
    "Origin",
    "Predictor",
    "Reader",
    "Split",
    "Stream",
    "TrainingSet",
    "Voxels",
    "check_no_leak",
    "patients_of",
    "rng_for",
    "seed_for",
    "size_strata",
    "split_patients",
]
