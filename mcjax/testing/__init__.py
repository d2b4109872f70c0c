"""Contract tests for paths, families, actions, methods of connecting and of merging, tasks
and attacks.

Each raises `AssertionError`:

```python
def test_my_path():
    mcjax.testing.check_path(MyPath(a, b), a, b)
```
"""

from .actions import check_action
from .attacks import check_attack
from .merging import check_merging
from .methods import check_method
from .paths import check_family, check_path
from .tasks import check_task

__all__ = [
    "check_action",
    "check_attack",
    "check_family",
    "check_merging",
    "check_method",
    "check_path",
    "check_task",
]
