"""B-mode against PyMUST: element signals and delay-and-sum of one plane wave; and the cost of the convolution tier.

10,000 scatterers, 64 elements, one transmission, 256 x 256 pixels, one thread. PyMUST runs `simus`, `rf2iq` and its
DAS matrix; ours sums the waves of all transmitting elements too (no ideal wavefront). PyMUST multiplies the spectrum
of the probe (70 %) with that of a one-cycle excitation; its pulse is as long as our Gaussian of 49 %, used here.
Compared are where single points are shown and how wide, and the contrast of a void and of a bright disc in speckle.
The correlation of the levels pixel by pixel is printed and not judged: it stays near 0.85; the pulses have equal
length but not the same shape, and what else lowers it was not taken apart. Exit status 1 if a target is missed.

    python benchmarks/ultrasound.py

PyMUST is LGPL and no dependency: `pip install pymust` in an environment of its own to compare.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: one thread on both sides
os.environ["NUMBA_NUM_THREADS"] = "1"

import importlib
import importlib.util
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from equipoise.core import Geometry, LabelMap, LabelScheme, rng_for
from equipoise.engines.imaging.simulate_ultrasound import SimulateUltrasound
from equipoise.engines.imaging.simulate_ultrasound.rf import Array, Transmit, beamform, element_signals

SCATTERERS, ELEMENTS, SIZE, ROUNDS = 10_000, 64, 256, 3
PITCH_MM, MHZ, F_NUMBER = 0.3, 5.0, 1.5
BANDWIDTH, PEER_BANDWIDTH = 0.49, 0.7
RATIO, CONVOLUTION_S = 10.0, 0.020
PLACE_MM, WIDTH_SHARE, CONTRAST_DB = 0.05, 0.1, 1.0
"""Largest differences of a point's place, its widths, and the contrasts."""
POINTS = ((0.0, 15.0), (4.0, 25.0), (-6.0, 32.0))
VOID, DISC = (-4.0, 20.0), (4.0, 28.0)

Render = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scatterers (x, z in mm, strength) with a void and a bright disc, and the pixels' x and z."""
    rng = rng_for(0, "scatterers")
    x, z = rng.uniform(-10, 10, SCATTERERS), rng.uniform(8, 38, SCATTERERS)
    strength = rng.standard_normal(SCATTERERS)
    strength[np.hypot(x - VOID[0], z - VOID[1]) < 3] *= 0.03
    strength[np.hypot(x - DISC[0], z - DISC[1]) < 3] *= 6
    pixels = np.meshgrid(np.linspace(-9, 9, SIZE), np.linspace(10, 36, SIZE), indexing="ij")
    return np.column_stack([x, z, strength]), pixels[0], pixels[1]


def ours(points: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    array = Array.linear(ELEMENTS, PITCH_MM, MHZ, BANDWIDTH)
    transmit = Transmit.plane(array)
    signals, start = element_signals(array, transmit, points, 40.0)
    return np.abs(beamform(array, transmit, signals, start, x, z, F_NUMBER))


def pymust(points: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    peer = importlib.import_module("pymust")
    param = peer.getparam("L11-5v")
    param.fc, param.bandwidth, param.Nelements = MHZ * 1e6, 100 * PEER_BANDWIDTH, ELEMENTS
    param.pitch, param.width, param.kerf = PITCH_MM * 1e-3, 0.9 * PITCH_MM * 1e-3, 0.1 * PITCH_MM * 1e-3
    param.fs, param.fnumber, param.c = 4 * param.fc, F_NUMBER, 1540.0
    delays = np.zeros((1, ELEMENTS))
    signals, _ = peer.simus(points[:, 0] * 1e-3, points[:, 1] * 1e-3, points[:, 2], delays, param)
    demodulated = peer.rf2iq(signals, param.fs, param.fc)
    matrix = peer.dasmtx(1j * np.array(demodulated.shape), x * 1e-3, z * 1e-3, delays, param)
    return np.abs((matrix @ demodulated.flatten(order="F")).reshape(x.shape, order="F"))


def seconds(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return float(np.median(times))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    levels = [20 * np.log10(p / p.max() + 1e-9) for p in (one, other)]
    shown = (levels[0] > -40) & (levels[1] > -40)
    return float(np.corrcoef(levels[0][shown], levels[1][shown])[0, 1])


def contrasts(picture: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the mean power of void and disc against even speckle at the same depth on the other side, dB.

    At the same depth, as the sums differ in their scale: ours is divided by the elements in use, PyMUST's is not.
    """

    def power(u: float, v: float) -> float:
        return float((picture[np.hypot(x - u, z - v) < 2] ** 2).mean())

    return np.array([10 * np.log10(power(u, v) / power(-u, v)) for u, v in (VOID, DISC)])


def point(render: Render, at: tuple[float, float]) -> np.ndarray:
    """Return where a single scatterer is shown (x, z), and its -6 dB widths across and along, mm."""
    across, along = at[0] + np.linspace(-1.5, 1.5, 121), at[1] + np.linspace(-0.8, 0.8, 161)
    picture = render(np.array([[*at, 1.0]]), *np.meshgrid(across, along, indexing="ij"))
    i, j = np.unravel_index(picture.argmax(), picture.shape)
    half = picture.max() / 2
    return np.array([across[i], along[j], (picture[:, j] > half).sum() * 0.025, (picture[i] > half).sum() * 0.01])


def differences(mine: np.ndarray, theirs: np.ndarray, x: np.ndarray, z: np.ndarray) -> list[str]:
    """Print how the two compare, and return what differs by too much."""
    missed = []
    for at in POINTS:
        own, other = point(ours, at), point(pymust, at)
        print(f"  point at {at}: ours {np.round(own, 3)}, PyMUST {np.round(other, 3)} (x, z, widths; mm)")
        if np.abs(own[:2] - other[:2]).max() > PLACE_MM or np.abs(own[2:] / other[2:] - 1).max() > WIDTH_SHARE:
            missed.append(f"point at {at} is shown differently")
    own, other = contrasts(mine, x, z), contrasts(theirs, x, z)
    print(f"  void, disc: ours {np.round(own, 2)} dB, PyMUST {np.round(other, 2)} dB; r = {alike(mine, theirs):.3f}")
    return missed + (["contrasts differ"] if np.abs(own - other).max() > CONTRAST_DB else [])


def label_map(size: int, frames: int = 1) -> LabelMap:
    x, y, _ = np.indices((size, size, frames)) / size
    masks = np.stack([y > 0.5, np.hypot(x - 0.5, y - 0.4) < 0.1]).astype(np.uint8)
    grid = Geometry.from_spacing((size, size, frames), (38 / size, 38 / size, 0.3))
    return LabelMap.on(grid, masks, LabelScheme.of(["muscle", "cyst"], exclusive=False))


def convolution(size: int, frames: int = 1) -> float:
    engine, labels = SimulateUltrasound(scanner="linear 7.5 MHz", looks=(1, 1)), label_map(size, frames)
    engine.render(label_map(32), None, rng_for(0, "warm"))
    return seconds(lambda: engine.render(labels, None, rng_for(1, "made")), 15 if frames == 1 else 1)


def main() -> int:
    missed = []
    points, x, z = scene()
    mine = ours(points, x, z)
    own = seconds(lambda: ours(points, x, z), ROUNDS)
    print(f"RF tier, {SCATTERERS} scatterers, {ELEMENTS} elements, {SIZE}², one transmit: {own:.3f} s of CPU")
    if importlib.util.find_spec("pymust") is None:
        print("PyMUST is not installed here: its row is left out (see the top of this file).")
    else:
        theirs = pymust(points, x, z)
        other = seconds(lambda: pymust(points, x, z), ROUNDS)
        print(f"PyMUST simus + rf2iq + DAS: {other:.3f} s; ratio {other / own:.1f}, target {RATIO:g}")
        missed += [f"ratio {other / own:.1f}"] if other / own < RATIO else []
        missed += differences(mine, theirs, x, z)
    for size in (64, 128, 256, 512):
        cost = convolution(size)
        print(f"convolution tier, whole picture {size}²: {1000 * cost:.1f} ms of CPU")
        if size == SIZE and cost > CONVOLUTION_S:
            missed.append(f"convolution tier {1000 * cost:.1f} ms, target {1000 * CONVOLUTION_S:g} ms")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = convolution(256, 256)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"256³ sweep: {cost:.1f} s of CPU; peak memory {peak / 2**20:.2f} GB, {before / 2**20:.2f} GB before it")
    print("missed: " + "; ".join(missed) if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
