"""Kind ``tissue``: glands, stroma and nuclei under the microscope."""

from equipoise.engines.anatomy.tissue.kind import Tissue

__all__ = ["Tissue"]
