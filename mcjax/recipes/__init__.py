"""The papers' named methods: `mcjax.connect(method, …)` returns a path."""

from .connect import METHODS, Connection, Method, connect, construct

__all__ = ["METHODS", "Connection", "Method", "connect", "construct"]
