"""Networks: what a trace finds, elements of the whole group."""

from __future__ import annotations

from .mutation import Mutation

M = Mutation
CONTRACT = "path/test_contract.py"
UNITS = "network/test_units.py"
ACTIONS = "symmetry/test_permutation.py"
IDENTITY = "network/test_values.py training/test_identity.py"
ACTION = "network/test_action.py"
CANONICAL = "network/test_canonical.py"
WHOLE = "align/test_whole_group.py"
LEARNED = "align/test_learned_action.py"
THEORY = "theory"
DIMENSION = "theory/test_dimension.py"
LOW_RANK = "theory/test_low_rank.py"
FERBACH = "theory/test_ferbach2023.py"
MUTATIONS = [
    # -- networks
    M("permute: an axis of two factors", "network/permuting.py",
      "index = (index[:, None] * size + vector).reshape(-1)",
      "index = (index[:, None] + vector * len(index)).reshape(-1)",
      "network/test_catalogue.py network/test_units.py -k 'permuting or rows_go_back'"),
    M("permute: parts of a concatenation", "network/permuting.py",
      "parts.append(start + inner)", "parts.append(inner)",
      "network/test_catalogue.py network/test_units.py -k 'permuting or rows_go_back'"),
    M("mix: rows and columns", "network/mixing.py",
      "+ new + letters[i]", "+ letters[i] + new", "network/test_mixing.py"),
    M("units: what is written counts", "network/units.py",
      "key=lambda c: c.written)", "key=lambda c: not c.written)", UNITS),
    M("units: leaves keep their type", "network/units.py",
      "c.layout.back(piece).astype(old.dtype)", "c.layout.back(piece)", UNITS),
    M("units: one index of an outer axis", "network/units.py",
      "piece = rows[(*c.index, ..., slice(start", "piece = rows[(..., slice(start", UNITS),
    M("partition: the innermost group", "network/units.py",
      "not (cell.written and cell.read), len(cell.only)", "True, -len(cell.only)", UNITS),
    M("action: the order of a product", "network/action.py",
      "compose(self._permutations, other._permutations, nesting)",
      "compose(other._permutations, self._permutations, nesting)", ACTIONS),
    M("compose: outer units first", "symmetry/permutation.py",
      "outer = _outer(name, inner.shape, p, nesting)",
      "outer = _outer(name, inner.shape, {}, nesting)", ACTIONS),
    M("inverse: where the outer unit was", "symmetry/permutation.py",
      "inverse = inverse[_outer(name, inverse.shape, undone, nesting)]", "pass", ACTIONS),
    M("identity: constants", "network/identity.py",
      "self.out.append(raw.tobytes().hex() if short else hashlib.blake2b(raw).hexdigest())",
      "pass", IDENTITY),
    M("identity: which primitive", "network/identity.py",
      "            say(equation.name)\n            self.number(equation.primitive)\n", "",
      IDENTITY),
    M("identity: parameters of a primitive", "network/identity.py",
      "                self.value(value)\n            for body", "            for body", IDENTITY),
    M("hash of a network", "network/identity.py",
      "return hash(self.digest)", "return id(self)", IDENTITY),
    # -- the whole group
    M("elements: columns of matrices move too", "network/elements.py",
      "    return xp.take_along_axis(moved, columns, axis=-1)\n", "    return moved\n", ACTION),
    M("elements: the order of a product", "network/elements.py",
      "first[k] @ second[k] if matrices", "second[k] @ first[k] if matrices", ACTION),
    M("elements: rows sum to 1", "network/elements.py",
      'if factor.kind == "orthogonal fixing ones" and off > allowed:', "if False:", ACTION),
    M("action: matrices of scalings", "network/action.py",
      "if primary_factors(groups[key[0]]).get(factor.kind) == key:", "if True:", ACTION),
    M("action: absent elements are the identity", "network/action.py",
      "for k in self._elements.keys() | other._elements.keys():",
      "for k in self._elements.keys() & other._elements.keys():", ACTION),
    M("split: two units are exchanged", "network/subgroups.py",
      "exchanged[:2] = 1, 0", "exchanged[:2] = 0, 1", ACTION),
    M("logarithm: -1s are paired", "symmetry/logarithm.py",
      "angles += [np.pi] * (len(minus) // 2)", "angles += [0.0] * (len(minus) // 2)", "symmetry"),
    M("logarithm: the inverse", "symmetry/logarithm.py",
      "@ self._rotation(-t)", "@ self._rotation(t)", f"symmetry {ACTION}"),
    M("orbit: what comes first", "path/orbit.py",
      "start = before(params)", "before(params)", f"{ACTION} {CONTRACT}"),
    M("orbit: leaves that stay", "path/orbit.py",
      "- moved", "- set()", f"{ACTION} {CONTRACT} evaluation/test_evaluate.py"),
    M("nearest: scales that fall to 0", "network/nearest.py",
      "    if (c == 0).any():", "    if False:", f"{ACTION} {LEARNED}"),
    M("balance: leaves that move twice", "network/balance.py",
      "TWICE if twice(network, k) else _RELAXATION", "_RELAXATION", CANONICAL),
    M("canonical: which scales have settled", "network/canonical.py",
      "return max(off, default=0.0) <= _SETTLED", "return True", CANONICAL),
    M("canonical: eigenvalues that coincide", "network/frames.py",
      "return sum(len(run) for _, run, alive in self.clusters if alive and len(run) > 1)",
      "return 0", CANONICAL),
    M("whole group: nothing farther than it was", "align/whole_group.py",
      "    if after >= before:", "    if False:", WHOLE),
    M("signs: dependent codes", "transport/signs.py",
      "        if not value:\n            return None\n",
      "        if not value:\n            continue\n", f"transport {WHOLE}"),
    M("learned action: B is moved first", "align/learned_action.py",
      "learned @ begin", "learned", LEARNED),
    M("learned action: never worse", "align/learned_action.py",
      "better = learned is not None and after < before", "better = learned is not None", LEARNED),
    M("learned action: signs of even powers", "align/latent.py",
      "    moved = _even(network, even, moved)\n", "", LEARNED),
    M("learned action: straight through", "align/latent.py",
      "return hard + (x - jax.lax.stop_gradient(x))", "return hard + 0 * x", LEARNED),
    M("balance: matrices from two sides", "network/balance.py",
      "power(g, TWICE) if twice(network, key) else g", "g", CANONICAL),
    M("components: each outer unit has its own", "theory/components.py",
      "return signs * one**outer, signs", "return signs * one, signs", THEORY),
    M("clouds: in the metric of the inputs", "theory/dimension.py",
      "(weights, root.times(weights))", "(weights, found.times(weights))", DIMENSION),
    M("clouds: points that coincide", "theory/dimension.py",
      "points = points[np.sort(distinct)]", "", DIMENSION),
    M("low rank: noise of what is left", "theory/low_rank.py",
      "rest = squares[rank:]", "rest = squares", LOW_RANK),
    M("low rank: the greatest of noise alone", "theory/low_rank.py",
      "_QUANTILE * (a + b)", "-_QUANTILE * (a + b)", LOW_RANK),
    M("deep statements: skips", "theory/mean_field.py",
      "if (written, read) != (1, 1):", "if False:", FERBACH),
    M("rescaling: the highest point", "theory/rescaling.py",
      "0.5 + (k - 1) * s / 12", "0.5 + (k - 1) * s / 6", THEORY),
    M("chords: curves longer than half a circle", "theory/curvature.py",
      "if curvature * length > math.pi:", "if False:", THEORY),
]  # fmt: skip
