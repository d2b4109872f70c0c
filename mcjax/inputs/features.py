"""What a detector of adversarial inputs looks at (vrabel2024, App. B.3; Harder et al. 2021)."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled
from .._static import unpack
from .._survivors import batches
from .._types import ApplyFn, Params
from ..network import Network
from ..path import Linear
from ..tasks import Task, require
from .descent import losses_of
from .interpolation import Sweep, swept
from .pairs import checked_model

# inputs (n, …) → (n, d) float64
Look = Callable[[Any], np.ndarray]
# Neighbours, and strengths of the penalty, that are tried on validation data.
_NEIGHBOURS = (1, 3, 7, 15, 31)
_STRENGTHS = (0.01, 1.0)


@dataclasses.dataclass(frozen=True)
class Watched:
    """A network, and what is looked at: `task` says where in the outputs the logits are."""

    model: ApplyFn | Network
    params: Params
    task: Task
    chunk: int

    def logits(self, x: Any) -> np.ndarray:
        """(n, classes), in float64."""
        run, found = compiled(_logits, self.model, self.task), []
        for part, rows in batches(len(x), self.chunk):
            logits = run(self.params, np.asarray(x[part])[rows])
            found.append(np.asarray(logits, float)[: part.stop - part.start])
        return np.concatenate(found)

    def classes(self, x: Any) -> int:
        """The number of logits."""
        of = functools.partial(_logits, self.model, self.task)
        return jax.eval_shape(of, self.params, x[:1]).shape[1]

    def losses(self, x: Any, y: Any) -> np.ndarray:
        """(n,): the task's loss."""
        return losses_of(self.model, self.task, self.params, x, (y,), self.chunk)

    def layers(self, x: Any, of: Callable[[np.ndarray], Any]) -> list[np.ndarray]:
        """For each layer (n, …): a function of what the layer reads, chunk by chunk."""
        _check_model.network(self.model, "model")
        found = []
        for part, rows in batches(len(x), self.chunk):
            given, count = np.asarray(x[part])[rows], part.stop - part.start
            read = self.model.layer_inputs(unpack(self.params), given)  # type: ignore[union-attr]
            found.append([of(np.asarray(read[name])[:count]) for name in self._per_row(given)])
        return [np.concatenate(layer) for layer in zip(*found, strict=True) if layer[0] is not None]

    def _per_row(self, x: np.ndarray) -> list[str]:
        """The layers that read a row for each input: not what has as many rows by chance, such as
        learned positions."""

        def read(params: Params, x: Any) -> dict[str, Any]:
            return self.model.layer_inputs(unpack(params), x)  # type: ignore[union-attr]

        def rows(n: int) -> dict[str, Any]:
            inputs = jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype)
            found = jax.eval_shape(read, self.params, inputs)
            return {name: v.shape[:1] for name, v in found.items()}

        few, more = rows(len(x)), rows(len(x) + 1)
        return [name for name in few if few[name] == (len(x),) and more[name] == (len(x) + 1,)]


def watch(
    model: ApplyFn | Network, params: Params, reference: tuple[Any, Any], task: Task, chunk: int
) -> Watched:
    """A network to be watched; raise unless it gives logits, and the reference its classes."""
    (x, y), task = reference, require(task)
    packed = checked_model(model, params, x, (y,), task)
    if np.ndim(y) != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"reference: y must be integer classes, one for each input, got {y.dtype} of shape "
            f"{np.shape(y)}"
        )
    return Watched(model, packed, task, _check.positive(chunk, "chunk"))


def _logits(model: Any, task: Task, params: Params, x: Any) -> jax.Array:
    return task.outputs(_check_model.apply_fn_of(model)(unpack(params), x))


class Feature(abc.ABC):
    """What a detector looks at: numbers of an input, and classifiers that may tell them apart."""

    @abc.abstractmethod
    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        """Inputs → features, after a look at clean labelled inputs of the training."""

    def classifiers(self) -> Mapping[str, Any]:
        """Name → scikit-learn classifier, of which validation chooses one."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return {
            f"logistic regression, C = {c:g}": make_pipeline(
                StandardScaler(), LogisticRegression(C=c, max_iter=2000)
            )
            for c in _STRENGTHS
        }


@dataclasses.dataclass(frozen=True)
class LossCurve(Feature):
    """The loss from an input to an image of the class that the network sees in it.

    ℓ(f((1 − t) x + t x_c), c) at even points t, c = argmax f(x), x_c the image of class c of the
    lowest loss that the training has; then the logits of x in falling order (vrabel2024, App. B.3).
    Classified by the nearest neighbours.

    - `points`: of the curve, ends included
    - `logits`: whether the logits follow

    **Raises:** `ValueError` for fewer than two points.
    """

    points: int = 50
    logits: bool = True

    def __post_init__(self) -> None:
        if _check.positive(self.points, "points") < 2:
            raise ValueError(f"points must be 2 or more, got {self.points}")

    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        templates = templates_of(watched, x, y)
        plan = Sweep(watched.model, watched.task, Linear, watched.chunk)
        ts = np.linspace(0, 1, self.points)

        def look(x: Any) -> np.ndarray:
            logits = watched.logits(x)
            classes = logits.argmax(1)
            missing = sorted(set(classes.tolist()) - set(templates))
            if missing:
                raise ValueError(
                    f"reference: it has no image of class {missing[0]}, which the network sees in "
                    f"{int((classes == missing[0]).sum())} of {len(x)} inputs"
                )
            to = np.stack([templates[c] for c in classes])
            curves = swept(plan, watched.params, x, to, (classes,), ts)[watched.task.loss]
            order = -np.sort(-logits, axis=1)
            return np.hstack([curves, order] if self.logits else [curves]).astype(float)

        return look

    def classifiers(self) -> Mapping[str, Any]:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        found: dict[str, Any] = {}
        for k in _NEIGHBOURS:
            found[f"{k} neighbours"] = KNeighborsClassifier(k)
            scaled = make_pipeline(StandardScaler(), KNeighborsClassifier(k))
            found[f"{k} neighbours, features standardised"] = scaled
        return found


def templates_of(watched: Watched, x: Any, y: np.ndarray) -> dict[int, np.ndarray]:
    """Class → the image of the lowest loss among those of the class."""
    losses = watched.losses(x, y)
    rows = {c: np.flatnonzero(y == c) for c in np.unique(y).tolist()}
    return {c: np.asarray(x[of[losses[of].argmin()]]) for c, of in rows.items()}


@dataclasses.dataclass(frozen=True)
class InputSpectrum(Feature):
    """|F(x)|, the magnitudes of an image's Fourier transform over its space (InputMFS)."""

    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        if np.ndim(x) < 3:
            raise ValueError(
                f"x: a spectrum is of images (n, …, channels), got inputs of shape {np.shape(x)}"
            )
        return lambda x: np.asarray(_spectrum(np.asarray(x), False))


@dataclasses.dataclass(frozen=True)
class LayerSpectrum(Feature):
    """Magnitudes (LayerMFS) or phases (LayerPFS) of the Fourier transforms of feature maps.

    Of what every layer of a traced `Network` reads, the first layer's images among it, over the
    axes of space.

    - `phase`: phases in place of magnitudes
    """

    phase: bool = False

    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        def look(x: Any) -> np.ndarray:
            found = watched.layers(x, lambda v: _spectrum(v, self.phase))
            if not found:
                raise ValueError("model: no layer reads maps over space, which have spectra")
            return np.hstack(found)

        return look


def _spectrum(maps: np.ndarray, phase: bool) -> np.ndarray | None:
    if maps.ndim < 3:
        return None
    transformed = np.fft.fftn(maps, axes=range(1, maps.ndim - 1))
    found = np.angle(transformed) if phase else np.abs(transformed)
    return found.reshape(len(maps), -1)


@dataclasses.dataclass(frozen=True)
class LocalDimension(Feature):
    """Local intrinsic dimension of what each layer reads, among clean inputs (Ma et al. 2018).

    −(1/k Σ_i log(r_i / r_k))⁻¹, r_1 ≤ … ≤ r_k the distances to the k nearest of the clean inputs.

    - `neighbours`: k; `clean`: inputs of the training that are drawn from
    """

    neighbours: int = 20
    clean: int = 500

    def __post_init__(self) -> None:
        if not 2 <= self.neighbours < self.clean:
            raise ValueError(f"neighbours must be 2 to {self.clean - 1}, got {self.neighbours}")

    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        if len(x) <= self.neighbours:
            raise ValueError(f"reference: {len(x)} inputs for {self.neighbours} neighbours")
        flat = lambda v: v.reshape(len(v), -1).astype(np.float64)  # noqa: E731
        known = watched.layers(x[: self.clean], flat)

        def look(x: Any) -> np.ndarray:
            layers = zip(watched.layers(x, flat), known, strict=True)
            return np.stack([local_dimension(v, w, self.neighbours) for v, w in layers], 1)

        return look


def local_dimension(x: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """(n,): of rows x among other rows; those at a distance of 0, the row itself, do not count."""
    from scipy.spatial.distance import cdist

    distances = cdist(x, among)
    distances[distances == 0] = np.inf
    nearest = np.sort(distances, 1)[:, :k]
    with np.errstate(divide="ignore"):
        return -1 / np.minimum(np.log(nearest / nearest[:, -1:]).mean(1), -1e-12)


@dataclasses.dataclass(frozen=True)
class Mahalanobis(Feature):
    """How far what each layer reads is from the nearest class (Lee et al. 2018, without noise).

    max_c −(v − µ_c)ᵀ Σ⁻¹ (v − µ_c) for each layer, v its maps averaged over space, µ_c their mean
    over clean inputs of class c, Σ the covariance that the classes share.
    """

    def learn(self, watched: Watched, x: Any, y: np.ndarray) -> Look:
        fitted = [_gaussians(v, y) for v in watched.layers(x, _over_space)]

        def look(x: Any) -> np.ndarray:
            layers = zip(watched.layers(x, _over_space), fitted, strict=True)
            return np.stack([_nearest(v, *gaussians) for v, gaussians in layers], 1)

        return look


def _over_space(maps: np.ndarray) -> np.ndarray:
    return maps.mean(tuple(range(1, maps.ndim - 1)), dtype=np.float64)


def _gaussians(v: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(classes, d) means, and the inverse of the covariance around them."""
    means = np.stack([v[y == c].mean(0) for c in np.unique(y)])
    around = v - means[np.searchsorted(np.unique(y), y)]
    return means, np.linalg.pinv(around.T @ around / len(v), hermitian=True)


def _nearest(v: np.ndarray, means: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    moved = v[:, None] - means
    return -np.einsum("nci,ij,ncj->nc", moved, inverse, moved).min(1)


__all__ = [
    "Feature", "InputSpectrum", "LayerSpectrum", "LocalDimension", "LossCurve", "Mahalanobis",
    "Watched", "local_dimension", "templates_of", "watch",
]  # fmt: skip
