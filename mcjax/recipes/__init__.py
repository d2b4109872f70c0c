"""The papers' named methods: `mcjax.connect(method, …)` returns a path."""

from .connect import METHODS, Method, connect

__all__ = ["METHODS", "Method", "connect"]
