"""What no simulator can image ends in one error that names the parameter, its value and what is legal."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from equipoise.cli import main
from equipoise.core import Geometry, LabelMap, LabelScheme, registry, rng_for
from equipoise.errors import DataError, EquipoiseError, GeometryMismatchError, LabelError, PlanError

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A small label map that a simulator can image, and the parameters that states what it does not know."""

    label: str
    spacing: float
    shape: tuple[int, int, int]
    states: str
    """The parameter in which a user states how an unknown structure looks."""
    pixel: str | None
    """The parameter with the size of a pixel of maps that state none; ``None`` if such maps cannot be imaged."""


FLAT, VOLUME = (24, 20, 1), (24, 20, 12)
SCENES = {
    "simulate-ct": Scene("nodule", 0.7, FLAT, "hu", "pixel_mm"),
    "simulate-mri": Scene("white matter", 1.0, FLAT, "tissue", "pixel_mm"),
    "simulate-xray": Scene("rib", 6.0, VOLUME, "materials", None),
    "simulate-ultrasound": Scene("muscle", 0.3, FLAT, "tissues", "pixel_mm"),
    "simulate-histology": Scene("stroma", 0.0005, FLAT, "stains", "um_per_px"),
    "simulate-fundus": Scene("optic disc", 0.03, FLAT, "tissues", "um_per_px"),
}
REGISTERED = [kind for kind in SCENES if kind in registry.kinds("engines")]
EVERY = [
    pytest.param(kind, marks=[] if kind in REGISTERED else pytest.mark.skip(reason="not registered")) for kind in SCENES
]


def drawn(scene: Scene, **changed: Any) -> LabelMap:
    """Return a scene's label map, with some of its parts changed."""
    given = dataclasses.replace(scene, **{k: v for k, v in changed.items() if k not in ("unit", "filled", "steps")})
    mask = np.zeros((1, *given.shape), np.uint8)
    if changed.get("filled", True):
        mask[:, given.shape[0] // 4 :, given.shape[1] // 4 :] = 1
    steps = changed.get("steps", (given.spacing,) * 3)
    return LabelMap.on(
        Geometry.from_spacing(given.shape, steps, unit=changed.get("unit", "mm")), mask, LabelScheme.of([given.label])
    )


def sampled(kind: str, labels: list[LabelMap], **parameters: Any) -> Any:
    engine = registry.make("engines", {"kind": kind, **parameters})
    return list(engine.sample(len(labels) or 1, rng_for(0, "bad"), labels))


def refused(call: Callable[[], Any], error: type[EquipoiseError] = EquipoiseError, *words: str) -> str:
    """Call, and return what the error says; it must be one of ours and hold these words."""
    with pytest.raises(error) as caught:
        call()
    said = str(caught.value)
    missing = [word for word in words if word not in said]
    assert not missing, f"{missing} not in: {said}"
    return said


# --- label maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_refused_below_is_refused_for_its_one_fault(kind: str) -> None:
    (case,) = sampled(kind, [drawn(SCENES[kind])])
    assert np.isfinite(case.image.array).all()


@pytest.mark.parametrize("kind", EVERY)
def test_an_unknown_label_is_named_with_the_parameter_that_states_it(kind: str) -> None:
    scene = SCENES[kind]
    said = refused(lambda: sampled(kind, [drawn(scene, label="florb")]), LabelError, "'florb'", f"{scene.states} = {{")
    assert scene.label in said, "the labels that it knows are not listed"
    near = f"{scene.label[:-1]}y"
    refused(lambda: sampled(kind, [drawn(scene, label=near)]), LabelError, repr(near), "Did you mean")


@pytest.mark.parametrize("kind", EVERY)
def test_a_map_without_spacing_needs_a_stated_size(kind: str) -> None:
    scene = SCENES[kind]
    bare = drawn(scene, spacing=1.0, unit="px")
    if scene.pixel is None:
        refused(lambda: sampled(kind, [bare]), GeometryMismatchError, "'px'", "spacing")
        return
    legal = {"hu": 0.7}.get(scene.states)  # ultrasound, MRI, H&E and fundus have a usual size, CT asks for it
    if legal is not None:
        refused(lambda: sampled(kind, [bare]), GeometryMismatchError, scene.pixel)
    (case,) = sampled(kind, [bare], **({scene.pixel: legal} if legal else {}))
    assert case.image.geometry.unit == "px"
    for value in (0.0, -1.0, 1e6, NAN):
        refused(lambda v=value: sampled(kind, [bare], **{scene.pixel: v}), PlanError, scene.pixel, repr(value), "legal")


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("size", [1000.0, 1e-7])
def test_an_impossible_spacing_is_named_with_the_legal_one(kind: str, size: float) -> None:
    scene = SCENES[kind]
    asked = (GeometryMismatchError, f"{size:g}", "mm is not possible", "legal:")
    refused(lambda: sampled(kind, [drawn(scene, spacing=size)]), *asked)
    # One axis is enough: a header with the wrong slice distance.
    refused(lambda: sampled(kind, [drawn(scene, steps=(scene.spacing, scene.spacing, size))]), *asked)


def test_a_spacing_of_0_is_no_grid() -> None:
    refused(lambda: Geometry.from_spacing((4, 4, 4), (1.0, 0.0, 1.0)), GeometryMismatchError, "spacing", "0.")


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ("simulate-xray", FLAT, ("projects volumes", "2-D", str(FLAT), "torso")),
        ("simulate-histology", VOLUME, ("2-D", "3-D", str(VOLUME))),
        pytest.param("simulate-fundus", VOLUME, ("2-D", "3-D", str(VOLUME)), marks=EVERY[-1].marks),
    ],
)
def test_a_map_of_the_wrong_dimension_is_refused(kind: str, shape: tuple[int, int, int], words: tuple[str]) -> None:
    refused(lambda: sampled(kind, [drawn(SCENES[kind], shape=shape)]), GeometryMismatchError, *words)


@pytest.mark.parametrize("kind", EVERY)
def test_an_empty_list_of_label_maps_is_no_wish_for_its_own(kind: str) -> None:
    refused(lambda: sampled(kind, []), DataError, kind, "empty list", "None")


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("changed", [{"filled": False}, {"shape": (1, 1)}, {"shape": (2, 3)}], ids=str)
def test_tiny_and_empty_maps_are_imaged(kind: str, changed: dict[str, Any]) -> None:
    scene = SCENES[kind]
    if "shape" in changed:
        changed = {"shape": (*changed["shape"], 1 if scene.shape == FLAT else 2)}
    labels = drawn(scene, **changed)
    (case,) = sampled(kind, [labels])
    assert np.isfinite(case.image.array).all()
    if kind != "simulate-xray":
        np.testing.assert_array_equal(case.truth.array, labels.array)


# --- the acquisition ------------------------------------------------------------------------------------------------

IMPOSSIBLE: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("simulate-ct", {"views": 0}, ("views = 0", "legal: 8 to 20000")),
    ("simulate-ct", {"photons": (-1.0, 100.0)}, ("photons = (-1.0, 100.0)", "legal")),
    ("simulate-ct", {"kvp": 10.0}, ("kvp = 10.0", "legal: 60 to 150 kV")),
    ("simulate-ct", {"thickness_mm": 0.0}, ("thickness_mm = 0.0", "legal")),
    ("simulate-ct", {"geometry": "cone"}, ("geometry", "'cone'", "fan")),
    ("simulate-mri", {"te_ms": (900.0, 950.0), "protocols": ("t1-spin-echo",)}, ("te", "950", "tr_ms")),
    ("simulate-mri", {"tr_ms": (5.0, 6.0), "protocols": ("t2-spin-echo",)}, ("tr", "te_ms")),
    ("simulate-mri", {"ti_ms": (5000.0, 6000.0), "protocols": ("t1-mprage",)}, ("ti_ms",)),
    ("simulate-mri", {"te_ms": (-5.0, 10.0)}, ("te_ms = (-5.0, 10.0)", "legal: within 0 to 10000 ms")),
    ("simulate-mri", {"snr": (0.0, 5.0)}, ("snr = (0.0, 5.0)", "legal: within 1 to")),
    ("simulate-mri", {"partial_fourier": (0.2, 1.0)}, ("partial_fourier = (0.2, 1.0)", "legal: within 0.5 to 1")),
    ("simulate-mri", {"slice_axes": (3,)}, ("slice_axes = (3,)", "legal")),
    ("simulate-mri", {"tissue": {"gel": [50.0, 90.0, 60.0, 0.8]}}, ("tissue.gel", "50.0", "T1 >= T2")),
    ("simulate-mri", {"scanner": "3T clinic"}, ("scanner = '3T clinic'", "Did you mean '3T clinical'")),
    ("simulate-xray", {"dose": -1.0}, ("dose = -1.0", "legal: 0.0001 to 10000")),
    ("simulate-xray", {"views": ()}, ("views", "PA")),
    ("simulate-xray", {"views": ("oblique",)}, ("views = 'oblique'", "PA")),
    ("simulate-xray", {"size": (0, 256)}, ("size = 0", "legal: 16 to 4096 pixels")),
    ("simulate-xray", {"field_mm": (430.0, 355.0)}, ("field_mm = (430.0, 355.0)", "rising")),
    ("simulate-xray", {"scanner": "mobile, at the bed", "views": ("lateral",)}, ("scanner", "lateral", "views")),
    ("simulate-xray", {"materials": {"rib": "stele"}}, ("materials.rib = 'stele'", "Did you mean 'steel'")),
    ("simulate-xray", {"materials": {"rib": [1.0]}}, ("materials.rib = [1.0]", "Known")),
    ("simulate-xray", {"targets": {"lungs": "lungs"}}, ("targets.lungs = 'lungs'", "legal")),
    ("simulate-xray", {"targets": {"lungs": [1]}}, ("targets.lungs = [1]", "legal")),
    ("simulate-ultrasound", {"gain_db": (-60.0, -40.0)}, ("gain_db = (-60.0, -40.0)", "legal: within -20 to 100 dB")),
    ("simulate-ultrasound", {"frequency_mhz": (0.0, 5.0)}, ("frequency_mhz = (0.0, 5.0)", "legal: within 0.5")),
    ("simulate-ultrasound", {"transmits": 0}, ("transmits = 0", "legal: 1 to 64")),
    ("simulate-ultrasound", {"tier": "rff"}, ("tier = 'rff'", "Did you mean 'rf'")),
    ("simulate-ultrasound", {"tissues": {"gel": [0.0, -1.0, 0.5]}}, ("tissues.gel", "MRayl", "-1.0", "legal")),
    ("simulate-histology", {"electrons": (-10.0, 10.0)}, ("electrons = (-10.0, 10.0)", "legal: within 100")),
    ("simulate-histology", {"aperture": (0.5, 1.4)}, ("aperture = (0.5, 1.4)", "legal: within 0.05 to 0.95")),
    ("simulate-histology", {"jpeg": (0, 90)}, ("jpeg = (0, 90)", "legal: within 1 to 100")),
    ("simulate-histology", {"thickness_um": (0.0, 4.0)}, ("thickness_um = (0.0, 4.0)", "legal: within 0.5 to 20 µm")),
    ("simulate-histology", {"stains": {"gel": [-1.0, 0.1]}}, ("stains.gel", "-1.0", "legal: 0 to 5")),
    ("simulate-fundus", {"field_deg": 0.0}, ("field_deg = 0.0", "legal")),
    ("simulate-fundus", {"exposure": (-1.0, 1.0)}, ("exposure = (-1.0, 1.0)", "legal")),
    ("simulate-fundus", {"noise": -1.0}, ("noise = -1.0", "legal")),
    ("simulate-fundus", {"quality": (0, 200)}, ("quality = (0, 200)", "legal")),
]


@pytest.mark.parametrize(
    ("kind", "parameters", "words"), IMPOSSIBLE, ids=[f"{kind}-{'-'.join(given)}" for kind, given, _ in IMPOSSIBLE]
)
def test_an_impossible_acquisition_is_refused_before_anything_is_made(
    kind: str, parameters: dict[str, Any], words: tuple[str, ...]
) -> None:
    if kind not in REGISTERED:
        pytest.skip("not registered")
    refused(lambda: registry.make("engines", {"kind": kind, **parameters}), PlanError, *words)


# --- numbers that are none, and values of another type --------------------------------------------------------------


def numeric(kind: str) -> list[tuple[str, str, Any]]:
    """Return every parameter of a kind that holds numbers, with a value that has a NaN in it."""
    cls = registry.load("engines", kind)
    plain = cls()
    found: list[tuple[str, str, Any]] = []
    for name, hint in get_type_hints(cls).items():
        if name not in registry.parameters(cls):
            continue
        text, value = str(hint), getattr(plain, name)
        if hint is float or text == "float | None":
            found.append((kind, name, NAN))
        elif "tuple[float" in text:
            count = text.split("tuple[")[1].split("]")[0].count("float")
            found.append((kind, name, (NAN,) * count))
            found.append((kind, name, (value[0] if value else 1.0, NAN, NAN)[:count]))
    return found


@pytest.mark.parametrize(("kind", "name", "value"), [row for kind in REGISTERED for row in numeric(kind)])
def test_a_number_that_is_none_is_refused_by_name(kind: str, name: str, value: Any) -> None:
    refused(lambda: registry.make("engines", {"kind": kind, name: value}), PlanError, name, "nan", "legal")


@pytest.mark.parametrize("kind", EVERY)
def test_infinite_and_huge_numbers_are_refused_too(kind: str) -> None:
    numbers = {name for _, name, value in numeric(kind) if isinstance(value, float)}
    assert len(numbers) > 3
    for name in numbers:
        for value in (math.inf, -math.inf, 1e300, -1e300):
            refused(lambda n=name, v=value: registry.make("engines", {"kind": kind, n: v}), PlanError, name, "legal")


@pytest.mark.parametrize("kind", EVERY)
def test_a_value_of_another_type_is_refused_by_name(kind: str) -> None:
    cls = registry.load("engines", kind)
    for name in registry.parameters(cls):
        for value in (object, {1, 2}):  # no parameter takes these
            refused(lambda n=name, v=value: registry.make("engines", {"kind": kind, n: v}), PlanError, name)


PYTHON_TYPES = [
    ("simulate-mri", {"protocols": 5}),
    ("simulate-mri", {"slice_axes": 2}),
    ("simulate-mri", {"classes": "x"}),
    ("simulate-mri", {"motion": True}),
    ("simulate-xray", {"views": 5}),
    ("simulate-xray", {"size": 256}),
    ("simulate-xray", {"anatomy": 5}),
    ("simulate-xray", {"targets": ["lungs"]}),
    ("simulate-ultrasound", {"transmits": 1.5}),
    ("simulate-ultrasound", {"tissues": 5}),
    ("simulate-histology", {"folds": True}),
    ("simulate-histology", {"anatomy": NAN}),
]


@pytest.mark.parametrize(("kind", "parameters"), PYTHON_TYPES, ids=str)
def test_python_callers_get_the_same_error_as_plans(kind: str, parameters: dict[str, Any]) -> None:
    cls = registry.load("engines", kind)
    ((name, value),) = parameters.items()
    refused(lambda: cls(**parameters), PlanError, name, repr(value))


# --- the command line -----------------------------------------------------------------------------------------------

COMMANDS = [
    ("simulate-mri", ["--set", "te_ms=[900, 950]", "--set", "protocols=['t1-spin-echo']"], ("950", "tr_ms")),
    ("simulate-mri", ["--set", "bias=nan"], ("bias = nan", "legal: 0 to 1")),
    ("simulate-mri", ["--anatomy", "heed"], ("'heed'", "Did you mean 'head'", "equipoise engines")),
    ("simulate-mri", ["--anatomy", "{kind = 'head', spacing = [0, 0, 0]}"], ("spacing",)),
    ("simulate-ct", ["--set", "views=0"], ("views = 0", "legal: 8 to 20000")),
    ("simulate-xray", ["--set", "dose=-1"], ("dose = -1.0", "legal")),
    ("simulate-xray", ["--anatomy", "tissue"], ("projects volumes", "2-D", "torso")),
    ("simulate-ultrasound", ["--set", "gain=-60"], ("'gain'", "Did you mean 'gain_db'")),
    ("simulate-ultrasound", ["--anatomy", "head"], ("does not know how 'scalp' looks", "tissues =")),
    ("simulate-histology", ["--set", "jpeg=['a', 'b']"], ("jpeg", "'a'")),
    ("simulate-histology", ["--anatomy", "torso"], ("simulate-histology needs a 2-D label map",)),
]


@pytest.mark.parametrize(("kind", "words", "said"), COMMANDS, ids=[f"{k} {' '.join(w)}" for k, w, _ in COMMANDS])
def test_the_command_line_says_it_once_and_leaves_nothing(
    kind: str,
    words: list[str],
    said: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "made"
    monkeypatch.setattr(sys, "argv", ["equipoise", "sample", kind, "--n", "1", "--out", str(out), *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    text = " ".join((printed.out + printed.err).split())
    assert stopped.value.code == 2
    assert "Traceback" not in text
    assert " failed: " not in text, "an error of Python was wrapped, not foreseen"
    assert not [word for word in said if word not in text], text
    assert not list(tmp_path.iterdir())
