"""Detection data sets: Pascal VOC directories, COCO json, and made scenes. numpy and Pillow only, no torch."""

from quant.data.specs import load
from quant.data.types import Dataset, Sample, letterboxed

__all__ = ["Dataset", "Sample", "letterboxed", "load"]
