"""Tests of the tests: each mutation breaks a line of the package, and some test must fail.

    python -m tests.mutations             # all of them, some ten minutes
    python -m tests.mutations arc sweep   # those whose names hold one of these words

A mutation is a line of a core function altered or taken out, and the tests that should see it. The
tests are first run as they are: they must pass. One that survives is a line that nothing tests.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_COPIED = ("mcjax", "tests", "experiments", "pyproject.toml", "README.md")


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A part of a file (which stands there once) and what it is replaced by.

    - `file`: in `mcjax/`
    - `tests`: arguments of pytest; files are in `tests/`
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


M = Mutation
SWEEP = "evaluation/test_evaluate.py -k 'numpy or chunks or legs or leg_does'"
DRIVER = "evaluation/test_driver.py"
CONTRACT = "path/test_contract.py"
UNITS = "network/test_units.py"
ACTIONS = "symmetry/test_permutation.py"
MOMENTS = "network/test_moments.py align/test_numbers.py -k 'not clip'"
GROUPS = "transport/test_groups.py transport/test_solvers.py"
ADJUST = "adjust/test_adjust.py -k 'not architecture'"
LAYERS = "methods/test_layerwise.py -k 'not resnet and not garipov'"
TRAINING = "training/test_driver.py training/test_fit.py"
STATISTICS = "evaluation/test_statistics.py"
IDENTITY = "network/test_values.py training/test_identity.py"
ACTION = "network/test_action.py"
CANONICAL = "network/test_canonical.py"
WHOLE = "align/test_whole_group.py"
LEARNED = "align/test_learned_action.py"
THEORY = "theory"
MUTATIONS = [
    # -- evaluation
    M("sweep: examples in two chunks count once", "evaluation/sweep.py",
      "cw = jnp.where(jnp.arange(plan.chunk) < skipped, 0, cw)", "pass", SWEEP),
    M("sweep: the points' own leaves", "evaluation/sweep.py",
      "params = replace_leaves(family.at(c), leaves)", "params = family.at(c)",
      f"{STATISTICS} evaluation/test_evaluate.py -k statistics"),
    M("metrics_at: a mean", "evaluation/sweep.py",
      "return {k: v / n for k, v in sums.values.items()}",
      "return {k: v / coordinates.shape[0] for k, v in sums.values.items()}", DRIVER),
    M("metrics_at: t in [0, 1]", "evaluation/sweep.py",
      "_check.interval(coordinates)", "pass", DRIVER),
    M("driver: sums over blocks", "evaluation/driver.py",
      "else jax.tree.map(np.add, total, found)", "else found", DRIVER),
    M("driver: labels of every block", "evaluation/along.py",
      "            labels(y)", "            pass", f"{DRIVER} test_tasks.py"),
    M("driver: NaN in a later block", "evaluation/driver.py",
      "if found.nan.any():", "if total is None and found.nan.any():", DRIVER),
    M("driver: costly points once", "evaluation/driver.py",
      "piece = planned.at_hand()", "piece = planned", DRIVER),
    M("stream: examples that fill a block", "_stream.py",
      "weights[: begin - first] = 0", "pass", DRIVER),
    M("stream: what is left of a batch", "_stream.py",
      "held, count, found = [_cut(whole, size, count)], count - size, found + size",
      "held, count, found = [_cut(whole, 0, count - size)], count - size, found + size", DRIVER),
    M("pieces: points of legs", "path/legs.py",
      "np.clip(s[k == leg] - leg, 0, 1)", "np.clip(s[k == leg] - leg, 0, 0)", SWEEP),
    M("sharing: leaves that are replaced", "path/sharing.py",
      "fixed = family.fixed() - set(replaced)", "fixed = family.fixed()",
      f"{STATISTICS} evaluation/test_evaluate.py"),
    M("sharing: what is linear", "path/sharing.py",
      "if i not in replaced and types[i].dtype.itemsize >= 4",
      "if types[i].dtype.itemsize >= 4", f"{STATISTICS} evaluation/test_evaluate.py"),
    M("statistics: weights of the end points", "evaluation/statistics.py",
      "mixed = np.tensordot(weights, stacked, 1)", "mixed = stacked[:1] + 0 * np.tensordot("
      "weights, stacked, 1)", STATISTICS),
    M("statistics: inputs' normaliser stays", "evaluation/statistics.py",
      "return _mixed(mixture, same)", "return {}", STATISTICS),
    M("statistics along: shares of batches", "evaluation/batch_norm.py",
      "share = length(some) / done", "share = 0.5", STATISTICS),
    M("batch statistics: the variance", "network/batch_norm.py",
      "(n.variance, jnp.var))", "(n.variance, jnp.std))", f"{STATISTICS} -k estimated"),
    M("batch statistics: the order of axes", "network/batch_norm.py",
      "jnp.transpose(moment(wide, n.axes), _ranks(role.axes)).reshape(old.shape)",
      "moment(wide, n.axes).reshape(old.shape)", "network/test_normalisation.py"),
    M("barrier: the chord", "evaluation/barrier.py",
      "loss - (1 - t) * loss[0] - t * loss[-1]", "loss - (1 - t) * loss[0] - t * loss[0]",
      "evaluation/test_evaluate.py evaluation/test_curve.py -k barrier"),
    M("curve: mean over length", "evaluation/curve.py",
      "np.sum(self.lengths * (values[1:] + values[:-1]) / 2) / total)",
      "np.mean((values[1:] + values[:-1]) / 2))", "evaluation"),
    M("plane: an orthonormal frame", "evaluation/plane.py",
      "second = linear_combination((1 / height,), (rest,))", "second = rest",
      "evaluation/test_plane.py"),
    M("REPAIR: the mean", "evaluation/repair.py",
      "goal_mean - mean * scale", "goal_mean - mean", "evaluation/test_repair.py"),
    M("REPAIR: the bias is scaled", "evaluation/repair.py",
      "bias * scale.reshape(bias.shape) + shift", "bias + shift", "evaluation/test_repair.py"),
    M("REPAIR: each after those before it", "evaluation/repair.py",
      "return h * scale + shift", "return h", "evaluation/test_repair.py"),
    # -- paths
    M("linear: which end", "path/combination.py",
      "lambda t: (1 - time(t), time(t))", "lambda t: (time(t), 1 - time(t))", CONTRACT),
    M("arc: exact at B", "path/combination.py",
      "return jnp.sin(jnp.pi / 2 * (1 - t)),", "return jnp.cos(jnp.pi / 2 * t),", CONTRACT),
    M("arc: around its mean", "path/combination.py",
      "return cosine, sine, 1 - cosine - sine", "return cosine, sine, 0 * t", CONTRACT),
    M("Bézier: binomials", "path/combination.py",
      "tuple(math.comb(n, k) * (1 - t)", "tuple((1 - t)", CONTRACT),
    M("legs: which leg", "path/legs.py",
      "return self.legs[int(whole)].at(s - whole)", "return self.legs[0].at(s - whole)", CONTRACT),
    M("legs: which leg, traced", "path/legs.py",
      "[leg.at for leg in self.legs], s - whole)", "[leg.at for leg in self.legs], s)", CONTRACT),
    M("velocity", "path/_base.py", "(jnp.ones_like(t),)", "(jnp.zeros_like(t),)", CONTRACT),
    # -- networks
    M("permute: an axis of two factors", "network/permuting.py",
      "index = (index[:, None] * factor.size + vector[None]).reshape(-1)",
      "index = (index[:, None] + vector[None] * len(index)).reshape(-1)",
      "network/test_catalogue.py network/test_units.py -k 'permuting or rows_go_back'"),
    M("permute: parts of a concatenation", "network/permuting.py",
      "parts.append(offset + (inner if inner.size else xp.arange(length)))",
      "parts.append(inner if inner.size else xp.arange(length))",
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
    # -- matching
    M("moments: means that differ", "network/moments.py",
      " + w * products,", ",", MOMENTS),
    M("moments: variances of chunks", "network/moments.py",
      "s[5] * of_s[0] ** 2 + t[5] * of_t[0] ** 2 + _square(e_a) * w",
      "s[5] * of_s[0] ** 2 + t[5] * of_t[0] ** 2", MOMENTS),
    M("correlations: deviations of b", "align/activations.py",
      "_of_a(m, scale_a) * _of_b(m, scale_b)", "_of_a(m, scale_a)",
      "align/test_matching.py align/test_signature.py -k 'objective or numpy'"),
    M("profit: inner products", "align/activations.py",
      "inner = m.cross + np.real(_of_a(m, m.mean_a) * _of_b(m, m.mean_b.conj()))",
      "inner = m.cross", "align/test_matching.py -k objective"),
    M("profit: distances", "align/activations.py",
      "- _of_a(m, of_a) - _of_b(m, of_b)", "- _of_a(m, of_a)",
      "align/test_matching.py -k objective"),
    M("weights: products that are kept", "align/parameters.py",
      "difference = b[:, :, changed] - self.b[:, :, changed]", "difference = b[:, :, changed]",
      "align/test_matching.py -k 'alone or objective'"),
    M("weights: only settled parameters", "align/parameters.py",
      "whole = settled is None or place.others.issubset(settled)", "whole = True",
      "align/test_matching.py align/test_weights.py -k 'planted or optimally or recovered'"),
    M("weights: found so far", "align/descent.py",
      "self.found.update(compose(delta, before, self.network.nesting))",
      "self.found.update(delta)", "align/test_matching.py"),
    M("descent: neighbours of what has moved", "align/descent.py",
      "                    todo |= self.neighbours[i]", "                    pass",
      "align/test_matching.py align/test_weights.py -k 'not unet and not regnet'"),
    M("assignment: tiny profits", "transport/exact.py",
      "return _refined(profit, columns)", "return columns", GROUPS),
    M("crossed: all is enumerated", "transport/crossed.py",
      "if solution.value > value:\n            best, value = setting",
      "if best is None or value == -math.inf:\n            best, value = setting", GROUPS),
    M("crossed: a local optimum says so", "transport/crossed.py",
      "OPTIMAL if self.proved() else LOCAL if finished", "OPTIMAL if finished", GROUPS),
    M("crossed: the bound", "transport/crossed.py",
      "solution.value + sum(map(_most, others))", "solution.value", GROUPS),
    M("crossed: exchanges", "transport/crossed.py",
      "finished = self.exchange()", "finished = True", GROUPS),
    M("groups: bounds of pairs", "transport/groups.py",
      "return np.minimum(first, second).reshape", "return (0.5 * first).reshape", GROUPS),
    M("groups: an unfinished proof", "transport/groups.py",
      "worst(status, BOUND if new else OPTIMAL,", "worst(status, OPTIMAL,", GROUPS),
    M("Sinkhorn: not converged", "transport/solvers.py",
      "status = ENTROPIC if converged else NOT_CONVERGED", "status = ENTROPIC", GROUPS),
    # -- weight adjustment and methods
    M("least squares: a small ridge", "adjust/solve.py", "_RIDGE = 1e-9", "_RIDGE = 1e-3", ADJUST),
    M("least squares: units of one size", "adjust/solve.py",
      "weights[alive] = solved * scale[:, None]", "weights[alive] = solved", ADJUST),
    M("least squares: what is cut off", "adjust/solve.py",
      "kept = values > _RANK_TOLERANCE * values[-1]", "kept = values > -1.0", ADJUST),
    M("moments along: the lower triangle", "adjust/moments.py",
      "out[:, k:n, i:j] = tile.swapaxes(1, 2)", "pass", ADJUST),
    M("moments along: compensated sums", "adjust/moments.py",
      "lost = jax.tree.map(lambda a, t, c: (a - t) - c, after, total, corrected)",
      "lost = jax.tree.map(jnp.zeros_like, after)", ADJUST),
    M("layerwise: the last leg", "methods/layerwise.py",
      "legs.append(self._partial(now, [(moved, last)]))", "pass",
      f"{LAYERS} methods/test_connect.py"),
    M("layerwise: layers solved for earlier", "methods/layerwise.py",
      "                end[leaf] = now[leaf]", "                pass", LAYERS),
    M("layerwise: what reads moves with knots", "methods/layerwise.py",
      "[part, (readers, Knots(knots))]", "[part]", LAYERS),
    M("layerwise: B is permuted too", "methods/layerwise.py",
      "self.b = self.network.permute(found, self.b)", "pass", f"{LAYERS} methods/test_connect.py"),
    # -- training
    M("step: a key for each step", "training/driver.py",
      "key, draw = jax.random.split(key)", "draw = key", f"{TRAINING} training/test_curves.py"),
    M("step: what is given to the optimiser", "training/driver.py",
      "self.optimizer.update(gradient, optimizer, floats)",
      "self.optimizer.update(gradient, self.optimizer.init(floats), floats)",
      "training/test_networks.py training/test_fit.py -k 'plain_loop or going_on'"),
    M("init: copies", "training/driver.py",
      "return copied(State(trained, begin(_floats(trained)), key))",
      "return State(trained, begin(_floats(trained)), key)",
      f"{TRAINING} training/test_networks.py"),
    M("resume: losses so far", "training/driver.py",
      "history = [] if kept is None else [kept]", "history = []",
      f"{TRAINING} training/test_networks.py"),
    M("resume: a part's key", "training/driver.py",
      "state = state._replace(key=keys(part))", "pass",
      f"{TRAINING} training/test_curves.py flows/test_flows.py"),
    M("store: another run", "training/store.py",
      "            if found:\n", "            if False:\n", "training/test_identity.py"),
    M("store: damaged bytes", "training/store.py",
      'if record["digest"] != _digest([*found["state"], losses]):', "if False:", TRAINING),
    M("run's identity: data", "training/identity.py",
      '"data": of_data({"x": x, "y": y})', '"data": of_data({"x": x})',
      "training/test_identity.py"),
    M("run's identity: what a function closes over", "training/identity.py",
      "cells.append(deeper(cell.cell_contents))", "pass", "training/test_identity.py"),
    M("run's identity: a length that the rate depends on", "training/identity.py",
      "if optimizer is None and not protocol.extendable:", "if False:",
      "training/test_identity.py"),
    M("protocol: a rate that does not know the length", "training/protocol.py",
      "period = self.halve_every * steps / self.epochs", "period = self.halve_every * steps",
      "training/test_identity.py"),
    M("PAM: the start", "methods/pam.py",
      "self._aligned(problem) if start is None else Action.of(network, start)",
      "self._aligned(problem)", "methods/test_pam.py"),
    M("run's identity: task", "training/identity.py",
      '        "task": describe(task),\n', "", "training/test_identity.py"),
    M("PGD: the ball", "attacks/pgd.py",
      "jnp.clip(jnp.clip(moved, x - radius, x + radius), low, high)",
      "jnp.clip(moved, low, high)", "attacks"),
    M("PGD: the bounds", "attacks/pgd.py",
      "jnp.clip(jnp.clip(moved, x - radius, x + radius), low, high)",
      "jnp.clip(moved, x - radius, x + radius)", "attacks"),
    M("PGD: the start of each example", "attacks/pgd.py",
      "jax.vmap(lambda n: jax.random.fold_in(key, n))(number)",
      "jax.vmap(lambda n: jax.random.fold_in(key, n))(number % 2)", "attacks"),
    # -- tasks and files
    M("classification: labels below 0", "tasks.py",
      "if low < 0 or high >= classes:", "if high >= classes:", "test_tasks.py"),
    M("classification: rows of probabilities", "tasks.py",
      "if not (values.min() >= 0 and off <= _SUM_TOLERANCE):", "if values.min() < 0:",
      "test_tasks.py"),
    M("regression: shapes", "tasks.py",
      "    if shape != wanted:", "    if False:", "test_tasks.py"),
    M("next token: what does not count", "tasks.py",
      "total = jnp.sum(jnp.where(counted, values, 0), axes)", "total = jnp.sum(values, axes)",
      "test_tasks.py"),
    M("save: names that collide", "saving/records.py",
      "        while name in self.arrays:", "        while False:", "saving"),
    M("load: other shapes", "saving/file.py",
      "    check_like(value, like, name)\n", "", "saving"),
    M("load: a newer file", "saving/file.py",
      "    if version != _VERSION:", "    if False:", "saving"),
    # -- the whole group
    M("elements: columns of matrices move too", "network/elements.py",
      "    return xp.take_along_axis(moved, columns, axis=-1)\n", "    return moved\n", ACTION),
    M("elements: the order of a product", "network/elements.py",
      "first[k] @ second[k] if matrices", "second[k] @ first[k] if matrices", ACTION),
    M("elements: rows sum to 1", "network/elements.py",
      'if factor.kind == "orthogonal fixing ones" and off > allowed:', "if False:", ACTION),
    M("action: matrices of scalings", "network/action.py",
      "            elif factor.primary:\n", "            else:\n", f"{ACTION} {LEARNED}"),
    M("action: absent elements are the identity", "network/action.py",
      "for k in self._elements.keys() | other._elements.keys():",
      "for k in self._elements.keys() & other._elements.keys():", ACTION),
    M("split: the reflection of one unit", "network/subgroups.py",
      "sign = np.where(negative, -1, 1)", "sign = np.where(negative, 1, 1)", ACTION),
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
      "if twice(network, key) else g", "if False else g", f"{CANONICAL} {WHOLE}"),
    M("canonical: which scales have settled", "network/canonical.py",
      "return max(off, default=0.0) <= _SETTLED", "return True", CANONICAL),
    M("canonical: eigenvalues that coincide", "network/frames.py",
      "return sum(len(run) for _, run, alive in self.clusters if alive and len(run) > 1)",
      "return 0", CANONICAL),
    M("whole group: nothing farther than it was", "align/whole_group.py",
      "    if after >= before:", "    if False:", WHOLE),
    M("whole group: twice scaled", "align/whole_group.py",
      "                c = np.sqrt(c)\n", "                c = c\n", WHOLE),
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
    M("absorbed: signs of a scale", "network/absorption/scales.py",
      " or _parities(factor) not in signs", "", "network/absorption"),
    M("components: each outer unit has its own", "theory/components.py",
      "return signs * one**outer, signs", "return signs * one, signs", THEORY),
    M("rescaling: the highest point", "theory/rescaling.py",
      "0.5 + (k - 1) * s / 12", "0.5 + (k - 1) * s / 6", THEORY),
    M("chords: curves longer than half a circle", "theory/curvature.py",
      "if curvature * length > math.pi:", "if False:", THEORY),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Run the mutations chosen; the number of those that survive."""
    chosen = [m for m in MUTATIONS if not words or any(w in m.name for w in words)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            place = REPOSITORY / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
        for tests in dict.fromkeys(m.tests for m in chosen):
            passed, words_of_it = _run(tests, copy)
            if not passed:
                sys.exit(f"tests/{tests} fails without any mutation: {words_of_it}")
        survived = [m for m in chosen if not _killed(m, copy)]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} killed")
    return len(survived)


def _killed(mutation: Mutation, copy: Path) -> bool:
    file = copy / "mcjax" / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.name!r}: {mutation.old!r} must stand once in {mutation.file}")
    file.write_text(text.replace(mutation.old, mutation.new))
    begin = time.perf_counter()
    try:
        passed, by = _run(mutation.tests, copy)
    finally:
        file.write_text(text)
    took = f"{time.perf_counter() - begin:4.0f} s"
    print(f"{'SURVIVES' if passed else 'killed  '} {took}  {mutation.name}  {by}", flush=True)
    return not passed


def _run(tests: str, copy: Path) -> tuple[bool, str]:
    """Whether the tests pass; the first that does not, or what pytest says."""
    arguments = [
        str(copy / "tests" / a) if (REPOSITORY / "tests" / a).exists() else a
        for a in shlex.split(tests)
    ]
    pytest = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest, *arguments], cwd=copy, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    if done.returncode in (4, 5):  # what pytest was asked for is not there
        sys.exit(f"tests/{tests}: {last}")
    return done.returncode == 0, failed[0].partition(" ")[2][:80] if failed else last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
