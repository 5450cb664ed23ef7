"""Pictures on the page: identical frames, thin outlines, a scale bar, and the lineage behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from equipoise.experiment.findings import Findings, Outline, Picture
from equipoise.report.colours import Style, lifted, style_of_name
from equipoise.report.content import Section, Table, number_cell, styles, text_cell
from equipoise.report.pictures import enlargement
from equipoise.report.svg import nice_step, number, tag
from equipoise.report.wording import count, known, plain, with_unit

TRUTH = "#FFFFFF"
_DENSE = 600
"""Outlines of more points (vessels, nuclei) are drawn thinner, so that the image stays visible below them."""


def frame_side(pictures: Sequence[Picture]) -> int:
    """Return the side of the frame that all these pictures share."""
    return max(max(p.width, p.height) * enlargement(p.width, p.height) for p in pictures)


def shot(picture: Picture, side: int, looks: Mapping[str, Style], quiz: bool = False) -> Markup:
    """Return one picture with its outlines, scale bar, caption and (hidden) lineage."""
    k = enlargement(picture.width, picture.height)
    known_outlines = ", ".join(o.name for o in picture.outlines) or "no outlines"
    image = tag(
        "img",
        src=f"data:image/png;base64,{picture.png}",
        alt=f"{picture.role} case {picture.case}; outlines: {known_outlines}",
        width=picture.width * k,
        height=picture.height * k,
        class_="pixels" if k > 1 else None,
        decoding="async",
    )
    image = Markup(str(image).removesuffix("</img>"))
    inner = tag(
        "span",
        image,
        _outlines(picture, looks),
        _scale_bar(picture),
        class_="pic",
        style=f"width:{number(100 * picture.width * k / side)}%",
    )
    button = tag(
        "button",
        inner,
        type="button",
        class_="frame",
        aria_haspopup="dialog",
        aria_label=f"Lineage of {picture.case}, {picture.role}",
    )
    return tag(
        "figure",
        button,
        _guess_buttons() if quiz else None,
        _caption(picture, quiz),
        tag("template", lineage_list(picture), class_="lineage"),
        class_="shot",
        data_role=picture.role,
    )


def _outlines(picture: Picture, looks: Mapping[str, Style]) -> Markup:
    parts = []
    for outline in picture.outlines:
        path = outline_path(outline)
        if not path:
            continue
        truth = is_truth(outline.name)
        colour = TRUTH if truth else lifted(style_of_name(arm_of(outline.name, looks), looks).colour)
        line = tag("path", d=path, stroke=colour, class_="outline", stroke_dasharray=None if truth else "5 3")
        dense = " dense" if sum(len(p) for p in outline.paths) > _DENSE else ""
        parts.append(tag("g", line, class_=("o-truth" if truth else "o-prediction") + dense))
    return tag(
        "svg",
        *parts,
        class_="outlines",
        viewBox=f"0 0 {picture.width} {picture.height}",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )


def is_truth(name: str) -> bool:
    """Return whether an outline is the truth, not a prediction: its name begins with "truth"."""
    return name.lower().startswith("truth")


def arm_of(name: str, looks: Mapping[str, Style]) -> str:
    """Return the arm of an outline: ``"mixed 1:1 · nodule"`` belongs to the arm ``"mixed 1:1"``."""
    whole = [arm for arm in looks if name == arm or name.startswith(f"{arm} · ")]
    return max(whole, key=len, default=name)


def outline_path(outline: Outline) -> str:
    """Return the outline as an SVG path; fewer than two points draw nothing."""
    parts = []
    for path in outline.paths:
        points = [(p[0], p[1]) for p in path if len(p) == 2 and known(p[0]) and known(p[1])]
        if len(points) < 2:
            continue
        # Steps in tenths of a pixel, each from where the last one truly ended, are half as long as positions.
        at = [(round(10 * x), round(10 * y)) for x, y in points]
        steps = [f"{_tenth(b[0] - a[0])} {_tenth(b[1] - a[1])}" for a, b in pairwise(at) if a != b]
        parts.append(f"M{_tenth(at[0][0])} {_tenth(at[0][1])}" + (f"l{' '.join(steps)}z" if steps else "z"))
    return "".join(parts)


def _tenth(value: int) -> str:
    return f"{value / 10:g}"


def _scale_bar(picture: Picture) -> Markup | None:
    if not known(picture.pixel) or picture.pixel <= 0:
        return None
    wide = picture.width * picture.pixel
    length = nice_step(wide / 5) if wide > 0 else 0.0
    if length > 0.6 * wide:
        return None
    shown = f"{length:g} {picture.unit}"
    return tag("span", tag("span", shown), class_="scale", style=f"width:{number(100 * length / wide)}%")


def _guess_buttons() -> Markup:
    buttons = [
        tag("button", name, type="button", data_guess=role, aria_pressed="false")
        for role, name in (("real", "Real"), ("synthetic", "Synthetic"))
    ]
    return tag("span", *buttons, class_="guess", hidden="")


def simulated_badge() -> Markup:
    """Return the visible mark of simulated pixels."""
    return tag("span", "Simulated", class_="badge")


def _caption(picture: Picture, quiz: bool) -> Markup:
    role = tag("span", picture.role, class_=f"role {picture.role}") if picture.role in ("real", "synthetic") else None
    scores = [tag("span", tag("b", plain(value, 3)), f" {arm}", class_="num") for arm, value in picture.score.items()]
    badge = simulated_badge() if picture.simulated else None
    tell = tag("span", role, badge, tag("span", picture.case, class_="case"), class_="tell")
    score = tag("span", Markup(" · ").join(scores), class_="scores") if scores else None
    return tag("figcaption", tell, score, tag("span", picture.window, class_="window tell" if quiz else "window"))


def lineage_list(picture: Picture) -> Markup:
    """Return where a picture comes from, for the dialog."""
    made = picture.role == "synthetic" or picture.engine is not None
    rows = [
        ("Case", picture.case),
        ("Kind", "synthetic" if made else "real"),
        ("Pixels", "simulated" if picture.simulated else "as acquired" if not made else "made by an engine"),
        ("Engine", picture.engine or ("not stated" if made else "none: a real case")),
        ("Seed", picture.seed or ("not stated" if made else "none")),
        ("Parents", _parents(picture, made)),
        ("Licence", picture.licence or "not stated"),
        ("Window", picture.window),
        ("Pixel", f"{plain(picture.pixel, 3)} {picture.unit}"),
        *((f"Score, {arm}", plain(value, 3)) for arm, value in picture.score.items()),
    ]
    return tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in rows), class_="facts")


def _parents(picture: Picture, made: bool) -> str:
    if picture.parents:
        return f"{count(len(picture.parents), 'patient')}: {', '.join(picture.parents)}"
    return "none: the engine learned from no patient" if made else "none"


def side_by_side(findings: Findings) -> Markup | None:
    """Return the real and synthetic pictures with the quiz, or ``None`` if there are none."""
    chosen = [p for p in findings.pictures if p.role in ("real", "synthetic")]
    if not chosen:
        return None
    looks, side = styles(findings), frame_side(chosen)
    real, made = ([p for p in chosen if p.role == role] for role in ("real", "synthetic"))
    ordered = [p for pair in _interleaved(real, made) for p in pair]
    can_guess = bool(real and made)
    tools = [_toggle("truth", "Truth outlines", "T")]
    if can_guess:
        tools.insert(
            0, tag("button", "Quiz: which are real?", type="button", class_="quiz-start", aria_pressed="false")
        )
    words = (
        "Press R or S on a picture, or use the buttons below it. Sizes, names and grey windows stay hidden until the "
        "last guess." + (" Some or all of these pictures are simulated." if any(p.simulated for p in chosen) else "")
    )
    return tag(
        "div",
        tag("div", *tools, tag("span", class_="quiz-score", role="status"), class_="tools"),
        tag("p", words, class_="quiz-help", hidden=""),
        tag("p", frames, class_="caption") if (frames := _frames(chosen)) else None,
        tag("div", *(shot(p, side, looks, can_guess) for p in ordered), class_="shots", style=f"--frame:{side}px"),
        class_="gallery" + (" quiz" if can_guess else ""),
    )


def _frames(pictures: Sequence[Picture]) -> str:
    """Return what the frames of all these pictures have in common; nothing where they differ."""
    # Pixel sizes are compared as they are shown; files round them otherwise.
    frames = {(p.width, p.height, p.unit, plain(p.pixel, 3)) for p in pictures}
    first = pictures[0]
    if len(frames) > 1 or not known(first.pixel):
        return ""
    decimals = 0 if first.unit == "px" else 1
    wide, high = (with_unit(plain(n * first.pixel, decimals), first.unit) for n in (first.width, first.height))
    return (
        f"Every picture has the same frame, {wide} by {high}, the same pixel size and the same rule for its grey "
        "values; a larger image is cut to it around a labelled spot."
    )


def _interleaved(real: Sequence[Picture], made: Sequence[Picture]) -> list[list[Picture]]:
    most = max(len(real), len(made))
    return [[*real[i : i + 1], *made[i : i + 1]] for i in range(most)]


def _toggle(what: str, text: str, key: str) -> Markup:
    return tag(
        "button",
        text,
        tag("kbd", key),
        type="button",
        class_="toggle",
        data_toggle=what,
        aria_pressed="true",
        aria_keyshortcuts=key,
    )


def predictions(findings: Findings) -> Section:
    """Return the section of the worst and the best test predictions."""
    title = "The worst ten and the best ten"
    worst, best = ([p for p in findings.pictures if p.role == role] for role in ("worst", "best"))
    if not worst and not best:
        why = "No predictions are shown: the sealed test set was not opened, or its pictures were not kept."
        return Section("pictures", title, why, state="empty")
    looks, side = styles(findings), frame_side([*worst, *best])
    tools = tag("div", _toggle("truth", "Truth", "T"), _toggle("prediction", "Predictions", "P"), class_="tools")
    parts: list[Markup | None] = [tools]
    for name, chosen in (("Worst", worst), ("Best", best)):
        if chosen:
            shots = tag("div", *(shot(p, side, looks) for p in chosen), class_="shots", style=f"--frame:{side}px")
            parts += [tag("h4", f"{name} {len(chosen)}"), shots]
    return Section(
        "pictures",
        title,
        _predictions_sentence(findings, worst, best),
        figures=[tag("div", _prediction_key(findings, [*worst, *best], looks), *parts, class_="gallery")],
        tables=[_score_table([*worst, *best])],
        how=[
            "Chosen by the primary metric of the headline arm on the sealed test set, not by looks. The truth is the "
            "solid white outline, predictions are dashed in their arm's colour. Grey values are mapped as stated below "
            "each picture and not changed otherwise.",
            "A score of one picture has no interval; it is an example, not evidence.",
        ],
    )


def _predictions_sentence(findings: Findings, worst: Sequence[Picture], best: Sequence[Picture]) -> str:
    head = findings.headline.arm if findings.headline else None

    def span(pictures: Sequence[Picture]) -> str | None:
        values = [
            v for p in pictures for arm, v in p.score.items() if known(v) and (head not in p.score or arm == head)
        ]
        return f"{plain(min(values), 3)} to {plain(max(values), 3)}" if values else None

    parts = [
        f"the {name} {len(chosen)} test pictures reach a {findings.metric.title} of {span(chosen)}"
        for name, chosen in (("worst", worst), ("best", best))
        if chosen and span(chosen)
    ]
    text = ", ".join(parts) or "test predictions with the truth beside them"
    return f"With {head}, {text}." if head and parts else text[0].upper() + text[1:] + "."


def _prediction_key(findings: Findings, pictures: Sequence[Picture], looks: Mapping[str, Style]) -> Markup:
    names = dict.fromkeys(arm_of(o.name, looks) for p in pictures for o in p.outlines if not is_truth(o.name))
    entries = [tag("li", tag("span", _swatch(TRUTH, False), "truth", class_="arm"))]
    for name in names:
        entries.append(
            tag("li", tag("span", _swatch(lifted(style_of_name(name, looks).colour), True), name, class_="arm"))
        )
    return tag("ul", *entries, class_="legend")


def _swatch(colour: str, dashed: bool) -> Markup:
    line = tag(
        "line", x1=3, x2=25, y1=8, y2=8, stroke=colour, stroke_width=2, stroke_dasharray="5 3" if dashed else None
    )
    box = tag("rect", width=28, height=16, rx=3, fill="#202124")
    return tag("svg", box, line, width=28, height=16, aria_hidden="true", focusable="false", class_="glyph")


def _score_table(pictures: Sequence[Picture]) -> Table:
    arms = list(dict.fromkeys(arm for p in pictures for arm in p.score))
    rows = [
        (text_cell(p.case), text_cell(p.role), *(number_cell(p.score.get(arm), 3) for arm in arms)) for p in pictures
    ]
    return Table("Scores of these pictures", ("Case", "Among the", *arms), rows)
