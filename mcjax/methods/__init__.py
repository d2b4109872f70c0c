"""The papers' named methods: `mcjax.connect(method, …)` returns a path."""

from .connect import METHODS, Connection, Method, connect, construct
from .pam import PAM, pam

__all__ = ["METHODS", "PAM", "Connection", "Method", "connect", "construct", "pam"]
