"""TeX as docutils, which makes MathML of it, reads it."""

from __future__ import annotations

import re

# `\frac12`, of which docutils makes 12 over what comes next.
_SHORT_FRACTION = re.compile(r"(\\[td]?frac)\s*([0-9A-Za-z])\s*([0-9A-Za-z])")
# Named functions, around which it leaves no space.
_FUNCTION = r"\\(?:log|exp|det|cos|sin)\b|\\operatorname\{[a-z]+\}"
_BEFORE = re.compile(rf"(?<=[\w}})])\s*({_FUNCTION})")
_AFTER = re.compile(rf"({_FUNCTION})\s*(?=[A-Za-z0-9]|\\(?!,|[bB]ig|left))")


def spelled(formula: str) -> str:
    """A formula with what docutils reads otherwise written out."""
    formula = re.sub(r"\\dots\b", r"\\ldots", formula)
    formula = _SHORT_FRACTION.sub(r"\1{\2}{\3}", formula)
    return _AFTER.sub(r"\1\\,", _BEFORE.sub(r"\\,\1", formula))
