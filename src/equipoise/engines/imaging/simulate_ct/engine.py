"""Kind ``simulate-ct``: a CT scan of any label map, with lung where nothing is labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from scipy import ndimage

from equipoise.core import Case, Geometry, Image, LabelMap, LabelScheme, Origin
from equipoise.core.registry import canonical, spec_of
from equipoise.engines.imaging.simulate_ct.learned import Learned, learn_from, smoothed
from equipoise.engines.imaging.simulate_ct.scan import Gantry, Protocol
from equipoise.engines.parts.attenuation import require
from equipoise.engines.parts.lung import AIR_HU, BLOOD_HU, FAT_HU, MUSCLE_HU, Grid, LungModel, Surroundings, power_law
from equipoise.engines.parts.nodule import draw_diameter, draw_nodule, paint
from equipoise.engines.parts.projection import KERNELS, kernel_mtf
from equipoise.errors import DataError, GeometryMismatchError, LabelError, did_you_mean

LUNG = "lung"
GROUND_GLASS = "ground-glass nodule"
SUBSOLID = "nodule"
"""The label of which `part_solid` and `ground_glass` shares are drawn as such."""


DENSITIES: Mapping[str, tuple[float, float]] = {
    "nodule": (20.0, 30.0),
    GROUND_GLASS: (-600.0, 70.0),
    "vessel": (BLOOD_HU, 10.0),
    "chest wall": (MUSCLE_HU, 10.0),
    "airway": (AIR_HU, 10.0),
    LUNG: (-850.0, 35.0),
}
"""Mean and standard deviation between cases, in HU, where the user states none.

Solid nodules lie above the -160 HU that separate solid from ground-glass parts in mediastinal settings, ground glass
below about -400 (Lee 2018)."""


@dataclass(frozen=True)
class SimulateCT:
    """CT slices and volumes of the lung around labelled structures, by attenuation, projection, noise and FBP.

    A structure gets its HU from the table; what nobody labelled is drawn: parenchyma, vessel trees, chest wall. Where
    ``"lung"`` is a label, the lung is there and soft tissue elsewhere; where ``"vessel"`` or ``"chest wall"`` is one,
    none is drawn besides. The truth is the label map as given.

    Parameters
    ----------
    hu
        ``[mean, standard deviation between cases]`` in HU of a structure by its label's name: added to `DENSITIES`, or
        instead of an entry there. ``"lung"``, ``"vessel"`` and ``"ground-glass nodule"`` are used even where they are
        no labels.
    part_solid, ground_glass
        Shares of the objects labelled ``"nodule"`` that are so; the others are solid.
    inner_sd
        Texture within a structure, in HU.
    margin_mm
        Standard deviation of the Gaussian that blurs a structure's margin, beside the scanner's own blur.
    lung_sd
        Texture of the parenchyma, in HU.
    vessels, pleural, wall_mm, fed
        Of what is drawn around: see `LungModel`.
    kernels
        Reconstruction kernels, one drawn per case.
    cutoff
        Range of the kernel's cut-off in cycles/mm, uniform. 0.7 gives `soft` 3.5 lp/cm at 50 % MTF.
    photons
        Range of the dose, log-uniform: photons per mm² over half a turn, see `Protocol`.
    electronic_sd, views, body_mm, kev
        Of the scanner: see `Gantry`.
    planes
        Most planes that a slice is averaged from, for the parts that are drawn (partial volume of vessels).
    size, spacing, diameter_mm
        Of the label maps that the engine draws itself if it is given none: voxels, mm, and median and log-sd of the
        nodule's diameter.
    learn
        Whether `fit` learns HU, textures, kernels, doses and sizes from the training cases, whose patients then become
        parents. Without it the engine stays as it is and has no parents.

    Notes
    -----
    A slice of 96² takes about 20 ms on one thread. Overlapping labels: the later one in the scheme lies on top.

    References
    ----------
    Kak AC, Slaney M. Principles of Computerized Tomographic Imaging. 1988.
    Lee JH et al. High versus low attenuation thresholds to determine the solid component of ground-glass opacity
    nodules. PLoS ONE 2018. doi:10.1371/journal.pone.0205490
    """

    kind: ClassVar[str] = "simulate-ct"

    hu: Mapping[str, Sequence[float]] = field(default_factory=dict)
    part_solid: float = 0.08
    ground_glass: float = 0.08
    inner_sd: float = 25.0
    margin_mm: float = 0.45
    lung_sd: float = 35.0
    vessels: float = 600.0
    pleural: float = 0.2
    wall_mm: float = 30.0
    fed: float = 0.35
    kernels: tuple[str, ...] = ("soft", "sharp")
    cutoff: tuple[float, float] = (0.6, 0.85)
    photons: tuple[float, float] = (6e6, 1e8)
    electronic_sd: float = 15.0
    views: int | None = None
    body_mm: tuple[float, float] = (170.0, 115.0)
    kev: float = 70.0
    planes: int = 3
    size: tuple[int, int, int] = (96, 96, 1)
    spacing: tuple[float, float, float] = (0.7, 0.7, 1.25)
    diameter_mm: tuple[float, float] = (9.0, 0.5)
    learn: bool = True
    _learned: Learned | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require(isinstance(self.hu, Mapping), f"hu must be a table of label = [mean, sd] in HU, got {self.hu!r}")
        for name, pair in self.hu.items():
            good = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
            require(
                good and bool(np.isfinite(pair).all()) and pair[1] >= 0, f"hu.{name} must be [mean, sd], got {pair!r}"
            )
        for name in ("part_solid", "ground_glass", "pleural", "fed"):
            require(0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        require(self.part_solid + self.ground_glass <= 1, "part_solid and ground_glass must not exceed 1 together")
        for name in ("inner_sd", "margin_mm", "lung_sd", "vessels", "wall_mm", "electronic_sd"):
            require(getattr(self, name) >= 0, f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("cutoff", "photons"):
            low, high = getattr(self, name)
            require(0 < low <= high, f"{name} must be a range [low, high] above 0, got {(low, high)}")
        require(len(self.kernels) > 0, f"kernels must name at least one of {KERNELS}")
        for kernel in self.kernels:
            kernel_mtf(kernel, 0.0, 1.0)  # refuses an unknown name
        require(self.views is None or self.views >= 8, f"views must be at least 8, got {self.views}")
        require(min(self.body_mm) >= 40, f"body_mm must be at least 40 mm, got {self.body_mm}")
        require(30 <= self.kev <= 150, f"kev must lie between 30 and 150 keV, got {self.kev}")
        require(self.planes >= 1, f"planes must be at least 1, got {self.planes}")
        require(min(self.size) >= 1 and min(self.spacing) > 0, f"got size {self.size}, spacing {self.spacing} mm")
        require(self.diameter_mm[0] > 0 <= self.diameter_mm[1], f"diameter_mm must be positive, got {self.diameter_mm}")

    @property
    def parents(self) -> frozenset[str]:
        """The patients that it was fitted on."""
        return self._learned.parents if self._learned else frozenset()

    def fit(self, cases: Sequence[Case], rng: np.random.Generator) -> SimulateCT:
        """Return an engine that has learned from CT cases in HU, or itself if ``learn`` is off.

        Kernel, dose and texture cannot be read off an image: scans are simulated with many settings, and each real
        image takes the settings of those whose noise at three scales resembles its own (approximate Bayesian
        computation; Beaumont, Zhang, Balding, Genetics 2002, doi:10.1093/genetics/162.4.2025).

        Raises
        ------
        DataError
            If there is no case, or an image is not in HU.
        """
        if not self.learn:
            return self
        return replace(self, _learned=learn_from(cases, self._simulated, rng))

    def sample(self, n: int, rng: np.random.Generator, labels: Sequence[LabelMap] | None = None) -> Iterator[Case]:
        """Yield ``n`` cases: of the given label maps in turn, or of nodules drawn here.

        Patients of *given* label maps are not known here: whoever hands them over adds them to the parents.

        Raises
        ------
        LabelError
            If the density of a label is neither stated nor learned.
        DataError
            If ``labels`` is empty.
        GeometryMismatchError
            If a grid has no mm, or no square pixels.
        """
        if labels is not None and not len(labels):
            raise DataError("simulate-ct got an empty list of label maps", fix="give at least one, or None for its own")
        spec = canonical(spec_of(self))
        for index, stream in enumerate(rng.spawn(n)):
            key = f"{stream.integers(2**63):016x}"
            truth = labels[index % len(labels)] if labels else self._nodule_map(stream)
            protocol = self._protocol(stream)
            image = self.render(truth, stream, protocol)
            yield Case(
                id=f"{self.kind}-{key}",
                patient=f"synthetic-{self.kind}-{key}",
                image=image,
                truth=truth,
                origin=Origin("synthetic", self.kind, spec, key, self.parents),
                scanner=f"simulated, {protocol.kernel} kernel",
                modality="CT",
                attributes={"kernel": protocol.kernel, "cutoff": protocol.cutoff, "photons": protocol.photons},
            )

    def render(self, labels: LabelMap, rng: np.random.Generator, protocol: Protocol) -> Image:
        """Return the scan of one label map with a given protocol, HU, on the label map's grid."""
        geometry = labels.geometry
        self._require_renderable(labels)
        i, j, slices = geometry.shape
        n = 2 * int(np.ceil((np.hypot(i, j) + 8) / 2))  # its circle holds the picture's corners
        start = ((n - i) // 2, (n - j) // 2)
        pixel, thickness = geometry.spacing[0], geometry.spacing[2]
        grid = Grid((n, n, slices), (pixel, pixel, thickness))
        wide = ((start[0], n - i - start[0]), (start[1], n - j - start[1]), (0, 0))
        instances = {name: np.pad(labels.instances(name), wide) for name in labels.scheme.names}
        anatomy, noise = rng.spawn(2)  # the dose changes the noise, not the patient
        scene = self._scene(instances, grid, anatomy)
        gantry = Gantry(self.views, self.electronic_sd, self.body_mm, self.kev)
        shown = gantry.scan(scene, grid, protocol, noise)
        return Image.on(geometry, shown[start[0] : start[0] + i, start[1] : start[1] + j][None].copy())

    def _require_renderable(self, labels: LabelMap) -> None:
        geometry = labels.geometry
        if geometry.unit != "mm" or abs(geometry.spacing[0] / geometry.spacing[1] - 1) > 0.01:
            raise GeometryMismatchError(
                f"simulate-ct needs square pixels of known size, got {geometry.spacing} {geometry.unit}",
                fix="give the images' spacing in mm, and resample to square pixels",
            )
        known = {*DENSITIES, *self.hu} | (set(self._learned.levels) if self._learned else set())
        for name in labels.scheme.names:
            if name not in known:
                raise LabelError(
                    f"simulate-ct does not know how dense {name!r} is.{did_you_mean(name, known)}",
                    fix=f"fit the engine on cases with this label, or state it: hu = {{{name!r} = [mean, sd], ...}}",
                )

    def _scene(self, instances: Mapping[str, np.ndarray], grid: Grid, rng: np.random.Generator) -> np.ndarray:
        """Return the HU of every voxel before the scan, shape ``(N, N, K)``: the mean over a slice's planes."""
        planes = int(np.clip(np.ceil(grid.voxel[2] / grid.voxel[0]), 1, self.planes))
        shape = (*grid.shape[:2], grid.shape[2] * planes)
        fine = Grid(shape, (*grid.voxel[:2], grid.voxel[2] / planes))
        lung, blood = self._level(LUNG, rng), self._level("vessel", rng)
        around = self._around(instances, fine, rng)
        drawn = lung + around.parenchyma
        if "vessel" not in instances:
            drawn = drawn + around.vessel * (blood - drawn)
        if not {"chest wall", LUNG} & set(instances):
            drawn = drawn + around.wall * (around.tissue - drawn)
        scene: np.ndarray = drawn.reshape(*grid.shape, planes).mean(axis=3)
        vessel = around.vessel.reshape(*grid.shape, planes).mean(axis=3)
        if LUNG in instances:
            scene = self._outside(scene, instances[LUNG] > 0, grid, rng)
        for name, numbers in instances.items():
            if name != LUNG:
                for number in np.unique(numbers[numbers > 0]):
                    self._paint(scene, name, numbers == number, vessel, grid, rng)
        return scene

    def _around(self, instances: Mapping[str, np.ndarray], fine: Grid, rng: np.random.Generator) -> Surroundings:
        """Draw what surrounds the labelled objects; they stay free of wall."""
        points, objects = [np.zeros((0, 2))], []
        planes = fine.shape[2] // next(iter(instances.values())).shape[2]
        for name, numbers in instances.items():
            if name in (LUNG, "chest wall", "vessel"):
                continue
            for number in np.unique(numbers[numbers > 0]):
                at = np.argwhere(numbers == number)
                place = np.column_stack(
                    [fine.axis(0)[at[:, 0]], fine.axis(1)[at[:, 1]], fine.axis(2)[at[:, 2] * planes]]
                )
                points.append(place[:, :2])
                radius = np.sqrt(len(at) / len(np.unique(at[:, 2])) / np.pi) * fine.voxel[0]
                objects.append((place.mean(axis=0), float(radius)))
        model = LungModel(self._spread(LUNG, self.lung_sd), self.vessels, self.pleural, self.wall_mm, self.fed)
        return model.draw(fine, np.concatenate(points), objects, rng)

    def _outside(self, scene: np.ndarray, lung: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        """Fill what lies outside a labelled lung with muscle and fat."""
        field_ = power_law(grid, 3.5, 25.0, rng)
        tissue = np.where(field_ > 0.6, FAT_HU, MUSCLE_HU) + 8 * field_
        share = self._share(lung, grid)
        return np.asarray(tissue + share * (scene - tissue))

    def _share(self, mask: np.ndarray, grid: Grid) -> np.ndarray:
        """Return a mask with its margin blurred in plane."""
        blur = self.margin_mm / grid.voxel[0]
        return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), (blur, blur, 0)))

    def _paint(
        self, scene: np.ndarray, name: str, mask: np.ndarray, vessel: np.ndarray, grid: Grid, rng: np.random.Generator
    ) -> None:
        """Draw one object into the scene."""
        corner = np.argwhere(mask)
        margin = int(np.ceil(4 * self.margin_mm / grid.voxel[0])) + 1
        low, high = (
            corner.min(axis=0) - np.array([margin, margin, 0]),
            corner.max(axis=0) + np.array([margin + 1, margin + 1, 1]),
        )
        box = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
        mask = mask[box]
        local = Grid((mask.shape[0], mask.shape[1], mask.shape[2]), grid.voxel)
        texture = power_law(local, 2.5, 6.0, rng)
        kind, core_share = rng.random(), rng.uniform(0.3, 0.7)
        dense = self._level(name, rng)
        glass = self._level(GROUND_GLASS, rng)
        inner = dense + self._spread(name, self.inner_sd) * texture
        if name == SUBSOLID and not (self._learned and name in self._learned.levels):
            veil = glass + 1.5 * self.inner_sd * texture
            veil = veil + vessel[box] * (BLOOD_HU - veil)  # ground glass does not hide its vessels
            if kind < self.ground_glass:
                inner = veil
            elif kind < self.ground_glass + self.part_solid:
                # The picture's first and last slice are no surface of the nodule: no padding there.
                padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)))
                depth = ndimage.distance_transform_edt(padded, sampling=grid.voxel)[1:-1, 1:-1]
                core = self._share(depth > (1 - core_share) * depth.max(), local)
                inner = veil + core * (inner - veil)
        scene[box] += self._share(mask, local) * (inner - scene[box])

    def _level(self, name: str, rng: np.random.Generator) -> float:
        """Draw the mean HU of one object."""
        z = rng.standard_normal()
        if self._learned and name in self._learned.levels:
            return smoothed(self._learned.levels[name], rng)
        mean, sd = self.hu.get(name, DENSITIES.get(name, (0.0, 0.0)))
        return float(mean + sd * z)

    def _spread(self, name: str, prior: float) -> float:
        """Return the texture of a structure in HU: learned, or the prior's."""
        return self._learned.textures.get(name, prior) if self._learned else prior

    def _protocol(self, rng: np.random.Generator) -> Protocol:
        """Draw how a case is scanned: like one of the training images, or from the prior."""
        if self._learned:
            return self._learned.protocols[int(rng.integers(len(self._learned.protocols)))]
        low, high = np.log(self.photons)
        kernel = self.kernels[int(rng.integers(len(self.kernels)))]
        return Protocol(kernel, float(rng.uniform(*self.cutoff)), float(np.exp(rng.uniform(low, high))))

    def _nodule_map(self, rng: np.random.Generator) -> LabelMap:
        """Draw a label map with one nodule near the centre: learned grid and size, or the prior's."""
        scheme, geometry = LabelScheme.of([SUBSOLID]), Geometry.from_spacing(self.size, self.spacing)
        diameter = draw_diameter(*self.diameter_mm, rng)
        if self._learned:
            scheme, geometries = self._learned.scheme, self._learned.geometries
            if len(scheme.labels) > 1 or not self._learned.log_diameters:
                raise DataError(
                    f"simulate-ct draws label maps of one label by itself, not of {scheme.names}",
                    fix="give it label maps: anatomy = 'real', or sample(n, rng, labels=...)",
                )
            geometry = geometries[int(rng.integers(len(geometries)))]
            diameter = float(np.exp(smoothed(self._learned.log_diameters, rng)))
        grid = Grid(geometry.shape, geometry.spacing)
        center = rng.uniform(-0.08, 0.08, 3) * grid.half
        return LabelMap.on(geometry, paint([draw_nodule(center, diameter, 0.15, 0.08, 1.5, rng)], grid)[None], scheme)

    def _simulated(
        self, protocol: Protocol, lung_sd: float, spacing: Sequence[float], rng: np.random.Generator
    ) -> Case:
        """Return a case of the prior with these settings, to compare real images with."""
        size = (64, 64, 1)  # enough places to look at, at half the time
        prior = replace(self, lung_sd=lung_sd, size=size, spacing=(spacing[0], spacing[0], spacing[2]), _learned=None)
        truth = prior._nodule_map(rng)
        return Case("simulated", "synthetic-simulated", prior.render(truth, rng, protocol), truth)


__all__ = ["SimulateCT"]
