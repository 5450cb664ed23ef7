"""Invented findings: numbers of no experiment, made to fill every part of the page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, Origin
from equipoise.experiment.findings import (
    Advice,
    ArmResult,
    Boundary,
    Check,
    Curve,
    CurvePoint,
    DataCard,
    Estimate,
    Exchange,
    Findings,
    Gate,
    Lineage,
    MetricCard,
    MixedEffects,
    Money,
    Picture,
    Power,
    Secondary,
    Stratum,
)
from equipoise.report.pictures import picture

# arm, family, ratio, control, effect inside, effect at the target
ARMS = [
    ("real duplicated to 1:1", "duplicate", 1.0, True, 0.002, -0.004),
    ("mixed 0.25:1", "mix", 0.25, False, 0.012, 0.021),
    ("mixed 1:1", "mix", 1.0, False, 0.021, 0.058),
    ("mixed 4:1", "mix", 4.0, False, 0.008, 0.063),
    ("weighted", "weighted", 1.0, False, 0.018, 0.049),
    ("synthetic, then real", "pretrain", 1.0, False, 0.015, 0.044),
    ("synthetic only", "synthetic", None, True, -0.214, -0.098),
    ("self-training", "self-training", 0.0, True, 0.006, 0.014),
]


def estimate(rng: np.random.Generator, value: float, half: float, n: int = 3, patients: int = 24) -> Estimate:
    dots = [float(value + half * 0.5 * z) for z in rng.standard_normal(n)]
    return Estimate(value, value - half, value + half, replicates=dots, patients=patients, conditional=n < 5)


def verdict_of(e: Estimate, margin: float) -> Any:
    if e.low > 0:
        return "better"
    if e.high < 0:
        return "worse"
    if -margin < e.low and e.high < margin:
        return "equal"
    return "not inferior" if e.low > -margin else "not proven"


def arm_results(rng: np.random.Generator, margin: float) -> list[ArmResult]:
    made = []
    for budget in ("steps", "epochs"):
        for where, base, half in (("inside", 0.781, 0.016), ("target", 0.593, 0.031)):
            common: dict[str, Any] = {"budget": budget, "where": where, "n": 8}
            made.append(
                ArmResult(
                    "real", "real", None, 0.0, mean=estimate(rng, base, half), difference=None, verdict=None,
                    p_holm=None, control=True, distinct_synthetic=0, sampling_weight=0, steps=300, cpu_seconds=21.4,
                    **common,
                )
            )  # fmt: skip
            for name, family, ratio, control, inside, target in ARMS:
                effect = inside if where == "inside" else target
                d = estimate(rng, effect + (0.009 if budget == "epochs" and family == "duplicate" else 0), half)
                share = 0.0 if ratio == 0 else 1.0 if ratio is None else ratio / (1 + ratio)
                weight = 0.0 if family in ("duplicate", "self-training") else share
                made.append(
                    ArmResult(
                        name, family, "simulate-ct" if weight else None, ratio,
                        mean=estimate(rng, base + effect, half), difference=d, verdict=verdict_of(d, margin),
                        p_holm=float(rng.uniform(0, 0.2)), control=control, distinct_synthetic=2400 * weight,
                        sampling_weight=weight, steps=300 if budget == "steps" else 900, cpu_seconds=24.0,
                        loss_weight=0.5 if family == "weighted" else None, **common,
                    )
                )  # fmt: skip
    return made


def nodule(rng: np.random.Generator, size: int = 96, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a made-up lung-like picture, (J, I), and a mask."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    lung = ((x / 0.42) ** 2 + (y / 0.46) ** 2) < 1
    cx, cy, r = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), rng.uniform(0.06, 0.12)
    angle = np.arctan2(y - cy, x - cx)
    mask = np.hypot(x - cx - shift, y - cy) < r * (1 + 0.16 * np.sin(3 * angle) + 0.08 * np.cos(5 * angle))
    vessels = sum(np.exp(-((x * math.cos(t) + y * math.sin(t) - o) ** 2) / 8e-5) for t, o in rng.uniform(-1, 1, (7, 2)))
    image = np.where(lung, -820.0 + 330 * np.clip(vessels, 0, 1), 30.0)
    image[mask] = 20
    grain = rng.standard_normal((size, size))
    image += 45 * (grain + np.roll(grain, 1, 0) + np.roll(grain, 1, 1)) / 1.7
    return image, mask


def pictures(rng: np.random.Generator, each: int = 6, tens: int = 10) -> list[Picture]:
    scheme, made = LabelScheme.of(["nodule"]), []
    geometry = Geometry.from_spacing((96, 96, 1), (0.7, 0.7, 1.0))

    def labels(mask: np.ndarray) -> LabelMap:
        return LabelMap.on(geometry, mask.T[None, :, :, None].astype(np.uint8), scheme)

    roles = ["real"] * each + ["synthetic"] * each + ["worst"] * tens + ["best"] * tens
    for i, role in enumerate(roles):
        image, mask = nodule(rng)
        origin = Origin()
        if role == "synthetic":
            origin = Origin("synthetic", "simulate-ct", "{}", f"7/simulate-ct/{i}", frozenset({"P-001", "P-017"}))
        case = Case(
            f"{role}-{i:02d}", f"P-{i:03d}", Image.on(geometry, image.T[None, :, :, None].astype(np.float32)),
            labels(mask), origin, licence="CC BY 3.0", modality="CT",
        )  # fmt: skip
        outlines = {"truth": case.labels}
        score = {}
        if role in ("worst", "best"):
            gap = 4 if role == "worst" else 1
            outlines["real"] = labels(np.roll(mask, gap, 1))
            outlines["mixed 1:1"] = labels(np.roll(mask, -gap, 0))
            low = 0.3 + 0.01 * i if role == "worst" else 0.95 - 0.004 * i
            score = {"real": low - 0.06, "mixed 1:1": low}
        made.append(picture(case, role, outlines, score=score, simulated=True))
    return made


def money() -> Money:
    real, synthetic = np.linspace(4, 64, 9).tolist(), np.linspace(0, 128, 9).tolist()
    expected = [[0.9 - 0.3 * (r + 0.06 * s) ** -0.4 for r in real] for s in synthetic]
    cost = [[220 * r + 12 * s + 300 * (s > 0) for r in real] for s in synthetic]
    prices = {"one annotated patient, one reader": 140.0, "adjudication": 80.0, "one synthetic case": 1.5}
    said = "A power law was fitted on validation patients."
    low, high = (
        [[e + side * (0.01 + 0.0003 * r) for e, r in zip(row, real, strict=True)] for row in expected]
        for side in (-1, 1)
    )
    return Money("EUR", prices, real, synthetic, expected, cost, said, low, high)


@pytest.fixture(scope="session")
def rich() -> Findings:
    rng, margin = np.random.default_rng(11), 0.02
    arms = arm_results(rng, margin)
    headline = next(a for a in arms if a.arm == "mixed 1:1" and a.where == "target" and a.budget == "steps")
    curves = [
        Curve("ratio", name, a.where, a.budget, [CurvePoint(r, b.difference) for r, b in found if b.difference])
        for a in arms
        if a.arm == "real"
        for name, family in (("simulate-ct", "mix"), ("real duplicated", "duplicate"))
        for found in [[
            (b.ratio or 0.0, b) for b in arms if b.family == family and (b.where, b.budget) == (a.where, a.budget)
        ]]
    ]  # fmt: skip
    sizes = (4, 8, 16, 32)
    curves += [
        Curve(
            "learning", "real", where, "steps",
            [CurvePoint(n, estimate(rng, base + 0.018 * math.log2(n), 0.014)) for n in sizes],
        )
        for where, base in (("inside", 0.727), ("target", 0.539))
    ]  # fmt: skip
    factors = {"size": ["< 6 mm", "6 to 10 mm", "> 10 mm"], "scanner": ["A, soft", "B, sharp"], "site": ["one", "two"]}
    strata = [
        Stratum(f, level, arm, 8, where, estimate(rng, float(rng.normal(0.02, 0.03)), 0.04, patients=9))
        for f, levels in factors.items()
        for arm in ("mixed 1:1", "mixed 4:1", "weighted", "synthetic only")
        for level in levels
        for where in ("inside", "target")
    ]
    boundary = [
        Boundary(
            who, kind, estimate(rng, d, 0.02), estimate(rng, m, 0.09), estimate(rng, o, 0.11), "mm"
        )
        for who, kind, d, m, o in [
            ("reader 1", "reader", 0.86, 0.52, 0.11), ("reader 2", "reader", 0.84, 0.61, -0.18),
            ("reader 3", "reader", 0.85, 0.55, 0.03), ("reader 4", "reader", 0.81, 0.72, 0.22),
            ("real", "arm", 0.78, 0.84, 0.19), ("mixed 1:1", "arm", 0.80, 0.74, 0.12),
        ]
    ]  # fmt: skip
    secondary = [
        Secondary(
            metric, unit, arm, 8, where, "steps", estimate(rng, base, half),
            None if arm == "real" else estimate(rng, effect * half, half),
        )
        for metric, unit, base, half in (
            ("NSD at 1 mm", "", 0.88, 0.02), ("HD95", "mm", 3.4, 0.6), ("volume error", "ml", 0.21, 0.04)
        )
        for arm, effect in (("real", 0.0), ("mixed 1:1", 0.8), ("mixed 4:1", 0.3), ("synthetic only", -2.5))
        for where in ("inside", "target")
    ]  # fmt: skip
    return Findings(
        title="Lung nodules: real, simulated, or both?",
        created="2025-05-04 10:12 UTC",
        plan_hash="9f31c07ab2d45e6670aa",
        plan='[data]\nformat = "demo"\n\n[arms]\nratios = [0.25, 1, 4]\n',
        verdict=[
            "Instrument check: with 8 real patients, adding one simulated case per real one is better at the target "
            "site, by 0.058 Dice [0.027, 0.089]",
            "Inside, the same mix is better by 0.021 [0.005, 0.037]; 24 test patients and 3 replicates, so this is "
            "conditional on these fits",
            "Next, buy 16 real annotations and make 64 synthetic cases",
        ],
        status="better",
        headline=headline,
        instrument_check=True,
        simulated_label="real annotation, simulated pixels",
        lights={
            "utility": ("green", "Better at the target site, on 24 patients."),
            "privacy": ("not audited", "No audit of memorisation has run."),
            "annotation": ("amber", "Training truth is one read per nodule."),
            "licence": ("green", "Every case allows research and commercial use."),
        },
        first_page=[
            Check("Deviations from the plan", "ok", "none."),
            Check("A/A control", "ok", "at equal steps, duplicated real data shows no difference from real."),
            Check("Opening of the test set", "ok", "first under this plan."),
            Check("Replicates", "warning", "3; a published claim needs 5."),
            Check("Near-duplicates across patients", "not run", "the images are simulated."),
        ],
        data=DataCard(
            name="LIDC outlines with simulated CT", modality="CT", unit="mm", spacing="0.70 × 0.70 × 1.25 mm",
            labels=["nodule"], cases=120, patients=96,
            parts={
                "train": {"cases": 64, "patients": 50}, "validation": {"cases": 16, "patients": 12},
                "sealed test": {"cases": 28, "patients": 24}, "target site": {"cases": 12, "patients": 10},
            },
            sites={"scanners A to C": 108, "external": 12}, licences={"CC BY 3.0": 120},
            assumptions=["pixels are simulated; outlines are the radiologists'"],
            truth="Training: one read, its slot drawn at random. Test: consensus of at least three.",
        ),
        leakage=[
            Check("Patients in two parts", "ok", "none of 96."),
            Check("Parents of synthetic cases", "ok", "all among the training patients of their arm."),
            Check("Near-duplicate images across patients", "ok", "none under a Hamming distance of 4."),
        ],
        gate=Gate(
            True, "Real-only training has reached its plateau: from 16 to 32 patients it gains less than the margin",
            0.86, "mean reader", estimate(rng, 0.781, 0.016),
        ),
        power=Power(24, 3, margin, 0.018, 0.83, "The test set could show a difference of about the margin."),
        metric=MetricCard("dice", "Dice", "", True, margin, "Overlap of two masks, 1 is perfect."),
        arms=arms,
        secondary=secondary,
        curves=curves,
        exchange=Exchange(estimate(rng, 11.0, 6.0), "Eight patients with the mix score like 19 without it."),
        money=money(),
        advice=Advice(
            "buy mix", "Buy 16 real annotations and make 64 synthetic cases for 3,616 EUR", 5000, "EUR", 16, 64,
            estimate(rng, 0.034, 0.02), estimate(rng, 0.021, 0.014), ["mixed 2:1 at n = 16"],
        ),
        strata=strata,
        boundary=boundary,
        lineage=[
            Lineage("simulate-ct", "simulate-ct", {"kind": "simulate-ct", "dose_mas": [20, 120], "views": 360},
                    3, 8, 2400, 0, 0.4, "streamed", "Apache-2.0, parents CC BY 3.0"),
            Lineage("phantom lungs", "phantom", {"kind": "phantom"}, 1, 0, 2400, 3, 0.0, "frozen", "Apache-2.0"),
        ],
        pictures=pictures(rng),
        reproduce={"command": "equipoise demo --seed 7", "version": "0.1.0", "lock file": "constraints.txt"},
        limits=["simulated pixels say nothing about CT", "24 test patients cannot show differences below 0.018"],
        mixed_effects=MixedEffects(
            estimate(rng, 0.058, 0.034), estimate(rng, 0.061, 0.019), estimate(rng, 0.012, 0.0118),
            estimate(rng, 0.042, 0.007), True, "The mixed-effects model and the bootstrap agree",
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def empty(rich: Findings) -> Findings:
    """Nothing but real data at one size, no picture, no audit."""
    real = [a for a in rich.arms if a.arm == "real" and a.budget == "steps"]
    return replace(
        rich, title="Only real", verdict=[], status="not proven", headline=None, instrument_check=False,
        simulated_label=None, lights={}, first_page=[], leakage=[], arms=real, secondary=[], curves=[],
        exchange=Exchange(None, ""), strata=[], boundary=[], lineage=[], pictures=[], reproduce={}, limits=[],
        money=Money("EUR", {}, [], [], None, [], ""),
        advice=Advice("not enough evidence", "", 0, "EUR", 0, 0, None, None),
        gate=Gate(False, "Two untrained models are not compared", None, None, None), mixed_effects=None,
    )  # fmt: skip


EVIL = "<script>alert('x')</script>\"&<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def nasty(rich: Findings) -> Findings:
    """Names that are code, numbers that are none, paths that end nowhere."""
    nan = float("nan")
    hole = Estimate(nan, nan, nan, replicates=[nan, 0.1])
    arms = [
        replace(a, arm=EVIL + a.arm, engine=EVIL, difference=hole if a.arm != "real" else None) for a in rich.arms[:8]
    ]
    bad = replace(rich.pictures[0], case=EVIL, window=EVIL, parents=[EVIL], engine=EVIL, pixel=nan, score={EVIL: nan})
    return replace(
        rich, title=EVIL, verdict=[EVIL, "", EVIL], simulated_label=EVIL, arms=arms, headline=arms[3], plan=EVIL,
        lights={"utility": ("red", EVIL), EVIL: ("amber", EVIL)}, first_page=[Check(EVIL, "failed", EVIL)],
        strata=[replace(s, level=EVIL, difference=hole) for s in rich.strata[:4]], secondary=[],
        curves=[replace(c, name=EVIL, points=[CurvePoint(nan, hole), *c.points]) for c in rich.curves],
        boundary=[replace(b, who=EVIL, distance=hole) for b in rich.boundary[:2]],
        money=replace(rich.money, expected=[[nan] * 9 for _ in range(9)], prices={EVIL: nan}),
        exchange=Exchange(hole, EVIL), pictures=[bad, replace(bad, role="synthetic"), replace(bad, role="worst")],
        reproduce={EVIL: EVIL}, limits=[EVIL], lineage=[replace(rich.lineage[0], name=EVIL, spec={EVIL: [nan, EVIL]})],
        metric=replace(rich.metric, margin=nan), data=replace(rich.data, name=EVIL, sites={EVIL: 3}),
    )  # fmt: skip


@pytest.fixture
def tiny_png() -> str:
    out = io.BytesIO()
    Pillow.fromarray(np.zeros((4, 4), np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
