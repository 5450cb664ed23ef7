"""A synthetic case as bytes, for the object store."""

from __future__ import annotations

import io
import json
from typing import Any
from zipfile import BadZipFile

import numpy as np

from equipoise.core import Case, Image, LabelMap, LabelScheme, Origin
from equipoise.core.labels import Label
from equipoise.errors import UnreadableFileError


def case_to_bytes(case: Case) -> bytes:
    """Return a case with a label map as a compressed ``.npz``; equal cases give equal bytes."""
    labels = case.labels
    about: dict[str, Any] = {
        "id": case.id,
        "patient": case.patient,
        "frame": case.image.frame,
        "unit": case.image.unit,
        "site": case.site,
        "scanner": case.scanner,
        "licence": case.licence,
        "modality": case.modality,
        "attributes": dict(case.attributes),
        "scheme": [[x.name, x.value, x.code] for x in labels.scheme.labels],
        "exclusive": labels.scheme.exclusive,
        "origin": {
            "kind": case.origin.kind,
            "engine": case.origin.engine,
            "spec": case.origin.spec,
            "seed": case.origin.seed,
            "parents": sorted(case.origin.parents),
        },
    }
    arrays = {"image": case.image.array, "labels": labels.array, "affine": case.image.affine}
    if labels.ignore is not None:
        arrays["ignore"] = labels.ignored()[None]
    arrays["about"] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy stamps every member with 1980: same bytes
    return buffer.getvalue()


def case_from_bytes(data: bytes) -> Case:
    """Return the case that `case_to_bytes` wrote."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        about = json.loads(content["about"].tobytes())
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UnreadableFileError(f"these bytes are no stored case ({error})") from error
    origin = about["origin"]
    scheme = LabelScheme(tuple(Label(*row) for row in about["scheme"]), about["exclusive"])
    image = Image(content["image"], content["affine"], about["frame"], about["unit"])
    return Case(
        id=about["id"],
        patient=about["patient"],
        image=image,
        truth=LabelMap.on(image.geometry, content["labels"], scheme, content.get("ignore")),
        origin=Origin(**{**origin, "parents": frozenset(origin["parents"])}),
        site=about["site"],
        scanner=about["scanner"],
        licence=about["licence"],
        modality=about["modality"],
        attributes=about["attributes"],
    )
