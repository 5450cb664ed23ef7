"""How the engines that learn were trained: held-out distance and diversity by step, and what they made meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from equipoise.experiment.findings import Check, Estimate, Findings
from equipoise.experiment.trained_engines import EngineFit, EngineLook, GridRow, TrainedEngine
from equipoise.report.charts import Dot, Level, Line, chart
from equipoise.report.colours import SYNTHETIC, Style
from equipoise.report.content import Section, Table, figure, legend, named, number_cell, text_cell
from equipoise.report.marks import padded_axis
from equipoise.report.sample_grids import steps_shown
from equipoise.report.svg import Axis, tag
from equipoise.report.wording import count, known, listed, plain, sentence

LOOK = Style(SYNTHETIC, "circle")
BEST = Style(SYNTHETIC, "diamond")

DISTANCE = "distance from held-out real images, lower is better"
DIVERSITY = "diversity, as a share of the real images'"


def engines_trained(findings: Findings) -> Section:
    """Return the section of the trainings of engines that learn from images."""
    title, engines = "How the engines were trained", findings.trained_engines
    if not engines:
        none = "No engine of this plan trained a network, so there is no training to show."
        return Section("engines", title, none, state="empty", simulated=False)
    return Section(
        "engines",
        title,
        " ".join(_said(engine) for engine in engines),
        figures=[part for number, engine in enumerate(engines) for part in _shown(engine, number)],
        tables=[_fits(engines), _looks(engines)],
        how=[
            "While an engine trains, images under the labels of held-out training patients are compared with these "
            "patients' own images, as kernel distance between features of an encoder that was trained on the other "
            "training patients. Around 0 they are as near as images of other training patients would be by chance. "
            "Diversity is the mean distance between made patches over that between real ones.",
            "Each line is one fit, as it was measured: no estimate, so it has no interval. Interval and spread over "
            "the replicates are in the sentence on the size of the set. Charts show the fits on most patients; the "
            "table has all.",
            "The weights with the least distance are kept, and the training stops when it no longer falls. Validation "
            "and test patients are never looked at. Fidelity decides nothing about the arms: only their scores do.",
            "Whether the set is large enough is read from a power law through the distances at all numbers of patients "
            "that the engine was fitted on; its interval comes from the spread of the replicates.",
        ],
        simulated=False,
    )


def set_size_checks(engines: Sequence[TrainedEngine]) -> list[Check]:
    """Return a line of the first page per engine that the set is too small for."""
    small = [e.set_size for e in engines if e.set_size.state == "warning"]
    return [Check("Set too small for an engine", size.state, sentence(size.sentence)) for size in small]


def _said(engine: TrainedEngine) -> str:
    """Return one sentence on the fits on most patients, and one on the size of the set."""
    fits, n = largest(engine), max(fit.n for fit in engine.fits)
    distances = [fit.best.distance for fit in fits if fit.best is not None and known(fit.best.distance)]
    if not any(fit.looks for fit in fits):
        return sentence(f"{engine.name}, fitted on {count(n, 'patient')}, was trained without looks at held-out images")
    reached = f"came to a distance of {_range(distances, 2)}" if distances else "never came to a good image"
    steps = _range([fit.best_step for fit in fits], 0)
    minutes = _range([fit.seconds / 60 for fit in fits], 1)
    said = f"{engine.name}, fitted on {count(n, 'patient')}, {reached} at step {steps} in {minutes} min."
    return f"{sentence(said)} {sentence(engine.set_size.sentence)}"


def largest(engine: TrainedEngine) -> list[EngineFit]:
    """Return the fits on most patients, one per replicate."""
    n = max(fit.n for fit in engine.fits)
    return [fit for fit in engine.fits if fit.n == n]


def _range(values: Sequence[float], decimals: int) -> str:
    low, high = (plain(end, decimals) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _shown(engine: TrainedEngine, number: int) -> list[Markup]:
    fits = largest(engine)
    key = legend([named(LOOK, "a look during the training"), named(BEST, "the weights that were kept")])
    x = _steps(fits)
    charts = [
        _chart(f"engine-{number}-distance", f"{engine.name}: distance", fits, x, DISTANCE, lambda k: k.distance),
        _chart(f"engine-{number}-diversity", f"{engine.name}: diversity", fits, x, DIVERSITY, lambda k: k.diversity),
    ]
    parts = [figure(key, tag("div", *charts, class_="charts"))]
    if engine.grid:
        parts.append(_grid(engine, fits[0]))
    return parts


def _chart(
    key: str, heading: str, fits: Sequence[EngineFit], x: Axis, name: str, value: Callable[[EngineLook], float | None]
) -> Markup:
    lines = []
    for fit in fits:
        dots = [
            Dot(look.step, Estimate(v, v, v), BEST if look.step == fit.best_step else LOOK, _tip(fit, look.step, v))
            for look in fit.looks
            if known(v := value(look))
        ]
        lines.append(Line(f"replicate {fit.replicate + 1}", dots, SYNTHETIC))
    ends = [0.0, *(dot.estimate.value for line in lines for dot in line.dots)]
    level = Level(1.0, "as varied as real images") if name == DIVERSITY else None
    axis = padded_axis(min(ends), max([*ends, 1.0] if level else ends), name)
    return chart(key, heading, lines, x, axis, level, zero=True)


def _tip(fit: EngineFit, step: int, value: float) -> str:
    kept = ", kept" if step == fit.best_step else ""
    return f"replicate {fit.replicate + 1}, step {plain(step, 0)}: {plain(value, 2)}{kept}"


def _steps(fits: Sequence[EngineFit]) -> Axis:
    most = max((look.step for fit in fits for look in fit.looks), default=1)
    axis = padded_axis(0, most, "steps", count=5)
    return Axis(0, axis.high, [t for t in axis.ticks if t >= 0], axis.labels[-len([t for t in axis.ticks if t >= 0]) :],
                axis.name)  # fmt: skip


def _grid(engine: TrainedEngine, fit: EngineFit) -> Markup:
    rows = [tag("div", tag("div", _name(row, fit), class_="grid-name"), _image(row, engine)) for row in engine.grid]
    steps = steps_shown(engine.grid)
    said = (
        f"Held-out training patients, fit on {count(fit.n, 'patient')}, replicate {fit.replicate + 1}: real patches, "
        f"their labels in colours, and synthetic images under the same labels after {listed(map(str, steps))} "
        f"{'step' if steps == [1] else 'steps'}. Every column is one patch."
    )
    return figure(tag("div", *rows, class_="grid-rows"), caption=said)


def _name(row: GridRow, fit: EngineFit) -> Markup:
    if row.name == "real":
        return tag("span", "real", class_="role real")
    if row.name == "labels":
        return tag("span", "labels")
    kept = " (kept)" if row.name == str(fit.best_step) else ""
    return tag("span", tag("span", "synthetic", class_="role synthetic"), f"step {row.name}{kept}")


def _image(row: GridRow, engine: TrainedEngine) -> Markup:
    said = {
        "real": "real patches of held-out training patients",
        "labels": "labels of these patches, one colour each",
    }.get(row.name, f"synthetic patches of {engine.name} under these labels after {row.name} steps")
    image = tag(
        "img",
        src=f"data:image/png;base64,{row.png}",
        alt=said,
        width=row.width,
        height=row.height,
        decoding="async",
    )
    return Markup(str(image).removesuffix("</img>"))


def _fits(engines: Sequence[TrainedEngine]) -> Table:
    columns = (
        "Engine", "Patients", "Replicate", "Steps", "Kept step", "Distance", "Diversity", "Why it stopped", "Minutes"
    )  # fmt: skip
    rows = [
        (
            text_cell(engine.name),
            number_cell(fit.n),
            number_cell(fit.replicate + 1),
            number_cell(fit.looks[-1].step if fit.looks else 0),
            number_cell(fit.best_step),
            number_cell(fit.best.distance if fit.best else None, 2),
            number_cell(fit.best.diversity if fit.best else None, 2),
            text_cell(fit.stopped),
            number_cell(fit.seconds / 60, 1),
        )
        for engine in engines
        for fit in engine.fits
    ]
    return Table("Every fit", columns, rows)


def _looks(engines: Sequence[TrainedEngine]) -> Table:
    rows = [
        (
            text_cell(engine.name),
            number_cell(fit.n),
            number_cell(fit.replicate + 1),
            number_cell(look.step),
            number_cell(look.distance, 3),
            number_cell(look.diversity, 3),
        )
        for engine in engines
        for fit in engine.fits
        for look in fit.looks
    ]
    return Table("Every look", ("Engine", "Patients", "Replicate", "Step", "Distance", "Diversity"), rows)


__all__ = ["engines_trained", "largest", "set_size_checks"]
