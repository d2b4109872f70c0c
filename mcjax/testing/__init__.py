"""Contract tests for whoever writes a path, a family or a task: each raises `AssertionError`.

def test_my_path():
    mcjax.testing.check_path(MyPath(a, b), a, b)
"""

from .paths import check_family, check_path
from .tasks import check_task

__all__ = ["check_family", "check_path", "check_task"]
