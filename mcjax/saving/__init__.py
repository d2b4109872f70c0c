"""Parameters and results in safetensors files: `mcjax.save` and `mcjax.load`."""

from .file import load, save

__all__ = ["load", "save"]
