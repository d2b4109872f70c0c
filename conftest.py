"""Examples that need packages which are no dependencies are collected where these are installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torchax") else ["mcjax/interop/torch.py"]
