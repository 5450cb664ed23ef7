"""Signal equations against a Bloch simulation that shares nothing with them: matrices, to the steady state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.engines.imaging.simulate_mri.sequences import PulseSequence, nulling_ti
from equipoise.engines.imaging.simulate_mri.tissues import TISSUES, Relaxation, tissues_at
from equipoise.errors import PlanError

TOLERANCE = 1e-3


def turned(axis: str, degrees: float) -> np.ndarray:
    """A pulse about x or y, on (x, y, z, 1)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    block = [[1, 0, 0], [0, c, s], [0, -s, c]] if axis == "x" else [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    whole = np.eye(4)
    whole[:3, :3] = block
    return whole


SPOILED = np.diag([0.0, 0.0, 1.0, 1.0])


class Cycle:
    """What one repetition does to isochromats of some frequencies: a product of affine maps ``(N, 4, 4)``."""

    def __init__(self, t1: float, t2: float, hz: np.ndarray) -> None:
        self.t1, self.t2, self.hz = t1, t2, hz
        self.done = np.tile(np.eye(4), (len(hz), 1, 1))
        self.echo = self.done

    def then(self, matrix: np.ndarray) -> Cycle:
        self.done = matrix @ self.done
        return self

    def wait(self, ms: float) -> Cycle:
        angle, e1, e2 = 2e-3 * np.pi * self.hz * ms, np.exp(-ms / self.t1), np.exp(-ms / self.t2)
        free = np.zeros((len(self.hz), 4, 4))
        free[:, 0, 0] = free[:, 1, 1] = np.cos(angle) * e2
        free[:, 0, 1], free[:, 1, 0] = np.sin(angle) * e2, -np.sin(angle) * e2
        free[:, 2, 2], free[:, 2, 3], free[:, 3, 3] = e1, 1 - e1, 1.0
        return self.then(free)

    def read(self) -> Cycle:
        self.echo = self.done
        return self

    def signal(self) -> float:
        """In the steady state, from rest."""
        rest = np.array([0.0, 0.0, 1.0, 1.0])
        steady = np.linalg.matrix_power(self.done, 2**16) @ rest
        shown = np.einsum("nij,nj->ni", self.echo, steady)
        return float(np.hypot(*shown[:, :2].mean(axis=0)))


STATIC = np.linspace(-40, 40, 33)
"""Frequencies in Hz that a spin echo must refocus."""


def bloch_spin_echo(tissue: Relaxation, s: PulseSequence) -> float:
    cycle = Cycle(tissue.t1, tissue.t2, STATIC)
    if s.name == "flair":
        cycle.then(turned("x", 180)).wait(s.ti).then(SPOILED)
    cycle.then(turned("x", 90)).wait(s.te / 2).then(turned("y", 180)).wait(s.te / 2).read()
    return cycle.wait(s.tr - s.te - s.ti).then(SPOILED).signal()


def bloch_gradient_echo(tissue: Relaxation, s: PulseSequence) -> float:
    # After perfect spoiling T2* acts on the echo alone.
    cycle = Cycle(tissue.t1, tissue.t2star, np.zeros(1))
    return cycle.then(turned("x", s.flip)).wait(s.te).read().wait(s.tr - s.te).then(SPOILED).signal()


def bloch_bssfp(tissue: Relaxation, s: PulseSequence, hz: float = 0.0) -> float:
    cycle = Cycle(tissue.t1, tissue.t2, np.array([hz]))
    for sign in (1, -1):
        cycle.then(turned("x", sign * s.flip)).wait(s.te).read().wait(s.tr - s.te)
    return cycle.signal()


def bloch_mprage(tissue: Relaxation, s: PulseSequence) -> float:
    before = s.echoes // 2
    cycle = Cycle(tissue.t1, tissue.t2star, np.zeros(1))
    cycle.then(turned("x", 180)).wait(s.ti - before * s.echo_spacing).then(SPOILED)
    for n in range(s.echoes):
        cycle.then(turned("x", s.flip)).wait(s.te)
        if n == before:
            cycle.read()
        cycle.wait(s.echo_spacing - s.te).then(SPOILED)
    return cycle.wait(s.tr - s.ti - (s.echoes - before) * s.echo_spacing).signal()


SOME = ("white matter", "grey matter", "cerebrospinal fluid", "subcutaneous fat", "pallidum")


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("tesla", [0.55, 1.5, 3.0])
@pytest.mark.parametrize(
    "sequence",
    [
        PulseSequence("spin-echo", 14, 500),
        PulseSequence("spin-echo", 100, 4500),
        PulseSequence("flair", 120, 9000, ti=2500),
        PulseSequence("flair", 30, 3000, ti=160),
        PulseSequence("gradient-echo", 18, 500, flip=20),
        PulseSequence("gradient-echo", 4, 12, flip=30),
        PulseSequence("bssfp", 2.5, 5, flip=45),
        PulseSequence("mprage", 3, 2300, ti=900, flip=9, echo_spacing=7, echoes=160),
        PulseSequence("mprage", 4, 1900, ti=1000, flip=12, echo_spacing=8.5, echoes=96),
    ],
    ids=lambda s: f"{s.name} TE {s.te:g} TR {s.tr:g}",
)
def test_signal_equations_agree_with_bloch(sequence: PulseSequence, tesla: float, name: str) -> None:
    tissue = TISSUES[name].at(tesla)
    bloch = {
        "spin-echo": bloch_spin_echo,
        "flair": bloch_spin_echo,
        "gradient-echo": bloch_gradient_echo,
        "bssfp": bloch_bssfp,
        "mprage": bloch_mprage,
    }[sequence.name](tissue, sequence)
    shown = sequence.signal(tissue.t1, tissue.t2, tissue.t2star, tissue.density)
    assert float(shown) == pytest.approx(tissue.density * bloch, abs=TOLERANCE)


@pytest.mark.parametrize("hz", [0.0, 20.0, 60.0, 90.0, 100.0, 130.0])
def test_bssfp_bands_agree_with_bloch(hz: float) -> None:
    tissue, sequence = TISSUES["grey matter"].at(1.5), PulseSequence("bssfp", 2.5, 5.0, flip=40)
    shown = sequence.signal(tissue.t1, tissue.t2, tissue.t2star, 1.0, off_resonance_hz=hz)
    assert float(shown) == pytest.approx(bloch_bssfp(tissue, sequence, hz), abs=TOLERANCE)


def test_bssfp_breaks_down_at_half_a_turn_per_repetition() -> None:
    tissue, sequence = TISSUES["grey matter"].at(1.5), PulseSequence("bssfp", 2.5, 5.0, flip=40)
    hz = np.array([0.0, 100.0])  # 1/(2 TR) = 100 Hz
    on, off = sequence.signal(tissue.t1, tissue.t2, tissue.t2star, 1.0, off_resonance_hz=hz)
    assert off < 0.15 * on


def test_nulling_ti_nulls() -> None:
    water = TISSUES["cerebrospinal fluid"].at(3.0)
    ti = nulling_ti(water.t1, 120, 9000)
    assert 2000 < ti < 3000
    assert PulseSequence("flair", 120, 9000, ti).signal(water.t1, water.t2, water.t2star, 1.0) < 1e-9
    assert bloch_spin_echo(water, PulseSequence("flair", 120, 9000, ti)) < TOLERANCE


def test_known_contrasts_of_the_brain() -> None:
    at = tissues_at(3.0, {})

    def shown(sequence: PulseSequence, name: str) -> float:
        t = at[name]
        return float(sequence.signal(t.t1, t.t2, t.t2star, t.density))

    white, grey, water = "white matter", "grey matter", "cerebrospinal fluid"
    t1 = PulseSequence("mprage", 3, 2300, ti=900, flip=9)
    assert shown(t1, white) > 1.2 * shown(t1, grey) > 2 * shown(t1, water)
    t2 = PulseSequence("spin-echo", 95, 5000)
    assert shown(t2, water) > 1.5 * shown(t2, grey) > 1.5 * shown(t2, white)
    dark_water = PulseSequence("flair", 120, 9000, ti=nulling_ti(at[water].t1, 120, 9000))
    assert shown(dark_water, "white-matter lesion") > 1.3 * shown(dark_water, white) > 10 * shown(dark_water, water)
    star = PulseSequence("gradient-echo", 25, 600, flip=20)
    assert shown(star, "haemorrhage") < 0.75 * shown(star, white)


@pytest.mark.parametrize("name", TISSUES)
def test_relaxation_moves_with_the_field_as_measured(name: str) -> None:
    fields = (0.064, 0.55, 1.5, 3.0, 7.0)
    found = [TISSUES[name].at(tesla) for tesla in fields]
    t1, t2, t2star = ([getattr(x, key) for x in found] for key in ("t1", "t2", "t2star"))
    assert t1 == sorted(t1), "T1 grows with the field"
    assert t2star == sorted(t2star, reverse=True), "T2* shrinks with the field"
    assert all(a >= b >= c > 0 for a, b, c in zip(t1, t2, t2star, strict=True))


def test_tables_hold_the_measured_values() -> None:
    # Wright 2008 (T1), Peters 2007 (T2* within the spread of its regions).
    for tesla, white, grey, caudate in ((1.5, 646, 1197, 1109), (3.0, 838, 1607, 1395), (7.0, 1126, 1939, 1684)):
        at = tissues_at(tesla, {})
        assert (at["white matter"].t1, at["grey matter"].t1, at["caudate"].t1) == pytest.approx((white, grey, caudate))
    for tesla, white, grey, putamen in ((1.5, 66.2, 84.0, 55.5), (3.0, 53.2, 66.0, 31.5), (7.0, 26.8, 33.2, 16.1)):
        at = tissues_at(tesla, {})
        found = [at[n].t2star for n in ("white matter", "grey matter", "putamen")]
        assert found == pytest.approx([white, grey, putamen], rel=0.25)


@given(
    st.floats(1.0, 200.0), st.floats(5.0, 10_000.0), st.floats(20.0, 5000.0), st.floats(0.01, 1.0), st.floats(1.0, 90.0)
)
def test_no_signal_exceeds_the_density(te: float, tr: float, t1: float, ratio: float, flip: float) -> None:
    for name in ("spin-echo", "gradient-echo", "bssfp"):
        if te < tr:
            shown = PulseSequence(name, te, tr, flip=flip).signal(t1, ratio * t1, ratio * t1, 0.8)
            assert 0 <= shown <= 0.8 + 1e-9


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (("spin-echo", 600, 500), "te_ms = 600"),
        (("spin-echo", 0, 500), "te_ms = 0"),
        (("flair", 120, 9000, 9500), "ti_ms = 9500"),
        (("flair", 3000, 5000, 2500), "ti_ms \\+ te_ms = 5500"),
        (("gradient-echo", 5, 20, 0, 200), "flip_degrees = 200"),
        (("mprage", 3, 2000, 300, 9), "ti_ms = 300"),
        (("mprage", 8, 2300, 900, 9), "te_ms = 8"),
    ],
)
def test_impossible_sequences_are_refused(arguments: tuple[object, ...], parameter: str) -> None:
    with pytest.raises(PlanError, match=f"{parameter}.*legal"):
        PulseSequence(*arguments)  # type: ignore[arg-type]
