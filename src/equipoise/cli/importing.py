"""``equipoise engines import``: somebody else's weights as a file that an engine starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.cli import terminal


def import_checkpoint(
    source: Path, out: Path, licence: str | None, config: Path | None, groups: int | None, as_json: bool
) -> None:
    """Write an imported file and say what is in it, where it comes from, and how it is used.

    Parameters
    ----------
    source, out, licence, config, groups
        See `equipoise.engines.imaging.flow.importing.import_checkpoint`.
    as_json
        Print JSON instead of text.

    Raises
    ------
    EquipoiseError
        Whatever is wrong with the file; nothing is written then.
    """
    # Here, not above: the command line starts without torch.
    from equipoise.engines.imaging.flow.importing import import_checkpoint

    about = import_checkpoint(source, out, licence, config, groups)
    if as_json:
        terminal.as_json({"path": str(out), **about})
        return
    parts = about["parts"]
    rows = [("Written", str(out))]
    for name, part in parts.items():
        rows.append((name.capitalize(), _shown(part)))
        rows.append(("", f"from {part['source']}, SHA-256 {part['sha256']}"))
    if about["left_out"]:
        rows.append(("Left out", f"the diffusion network: {about['left_out']}"))
    rows.append(("Licence", parts["autoencoder"]["licence"]))
    rows.append(("Trained on", f"{about['trained_on'] or 'not stated'}: make sure that no test patient is among them"))
    settings = " ".join(f"--set {name}={out}" for name in parts)
    rows.append(("Use", f"equipoise sample flow {settings} --plan PLAN --out FOLDER"))
    terminal.lines(rows)


def _shown(part: Mapping[str, Any]) -> str:
    """Return what a network is, in one line."""
    arguments = part["architecture"]["with"]
    widths = arguments.get("num_channels") or arguments.get("channels")
    shown = f"{part['format']}, {arguments['spatial_dims']}-D, {arguments['in_channels']} channel(s)"
    if "latent_channels" in arguments:
        shown += f" to {arguments['latent_channels']} at 1/{2 ** (len(widths) - 1)} of the sides"
    scale = part.get("scale")
    return shown if scale is None else f"{shown}, latents scaled by {scale:.4g}"


__all__ = ["import_checkpoint"]
