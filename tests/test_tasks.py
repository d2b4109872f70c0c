"""Tasks: what is scored, what is refused, and that nothing scores what it is not."""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.path import Linear
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN, REGRESSION, cross_entropy

N, C = 12, 3


def linear(p, x):
    return x @ p["w"]


def line(columns=C, d=5):
    rng = np.random.default_rng(0)
    make = lambda: {"w": jnp.asarray(rng.normal(size=(d, columns)), jnp.float32)}
    return Linear(make(), make())


def inputs(d=5):
    return np.random.default_rng(1).normal(size=(N, d)).astype(np.float32)


def score(y, columns=C, model=linear, **options):
    return mcjax.evaluate(line(columns), model, (inputs(), y), 3, **options)


CLASSES = np.arange(N) % C


# -- what is no classification -------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "columns", "message"),
    [
        (np.zeros((N, 1), np.float32), 1, r"needs logits.*task=mcjax.tasks.REGRESSION"),
        (np.zeros((N, 2), np.float32), 2, r"must be ≥ 0 and sum to 1.*mcjax.tasks.REGRESSION"),
        (np.zeros(N, np.float32), C, r"cast them to integers, y.astype\(int\)"),
        (np.zeros(C, np.float32), C, "different lengths"),
        (CLASSES - 1, C, r"labels lie in \[-1, 1\], expected classes from 0 to 2"),
        (CLASSES + 1, C, r"labels lie in \[1, 3\], expected classes from 0 to 2"),
        (jnp.asarray(CLASSES - 1), C, r"labels lie in \[-1, 1\]"),
        (np.eye(C, dtype=int)[CLASSES], C, r"pass floats, y.astype\(float\)"),
        (np.full((N, C), np.nan, np.float32), C, "must be ≥ 0 and sum to 1"),
        (CLASSES > 0, C, r"got bool of shape \(12,\); if these are classes, cast them"),
        (CLASSES, 1, "two classes or more"),
        ({"a": CLASSES}, C, "labels that are one array, got a dict"),
    ],
)
def test_what_is_no_classification_is_refused(y, columns, message):
    with pytest.raises(ValueError, match=message):
        score(y, columns)


def test_float_labels_as_many_as_classes_do_not_broadcast():
    y = np.linspace(0, 1, C, dtype=np.float32)
    with pytest.raises(ValueError, match=r"y: classification takes integer classes"):
        mcjax.evaluate(line(), linear, (inputs()[:C], y), 2)


@pytest.mark.parametrize("shape", [(C,), (1, C)])
@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION])
def test_one_row_for_the_batch_is_refused(shape, task):
    model = lambda p, x: (x @ p["w"]).mean(0).reshape(shape)
    y = CLASSES if task is CLASSIFICATION else np.zeros((N, C), np.float32)
    with pytest.raises(ValueError, match=r"y: |needs logits"):
        score(y, model=model, task=task)


def test_outputs_that_are_no_logits():
    with pytest.raises(
        ValueError, match=r"logits at every position of a sequence task=mcjax\.tasks\.NEXT"
    ):
        score(CLASSES, model=lambda p, x: jnp.stack([x @ p["w"]] * 2, 1))
    with pytest.raises(ValueError, match=r"CLASSIFICATION.reading\(lambda out: out\['logits'\]\)"):
        score(CLASSES, model=lambda p, x: {"logits": x @ p["w"], "norm": x})
    with pytest.raises(ValueError, match=r"task must be a mcjax.Task.*got 'regression'"):
        score(CLASSES, task="regression")


def test_nan_logits_are_no_class():
    logits = jnp.array([[jnp.nan, 1.0], [0.0, 1.0]])
    values = CLASSIFICATION.values(logits, jnp.array([0, 1]))
    assert np.isnan(values["accuracy"]).tolist() == [True, False]
    assert np.isnan(values["loss"]).tolist() == [True, False]
    assert np.isnan(CLASSIFICATION.worst("accuracy", values["accuracy"]))


# -- what is one ---------------------------------------------------------------------------


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return (
        z
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - z.max(-1, keepdims=True)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_classes_of_any_integer_type(dtype):
    curve = score(CLASSES.astype(dtype))
    logits = inputs() @ np.asarray(line()(0.5)["w"])
    assert curve.loss[1] == pytest.approx(-log_softmax(logits)[np.arange(N), CLASSES].mean(), 1e-5)
    assert curve.accuracy[1] == pytest.approx((logits.argmax(1) == CLASSES).mean())


def test_probabilities_are_labels():
    y = np.random.default_rng(2).dirichlet(np.ones(C), N).astype(np.float32)
    logits = inputs() @ np.asarray(line()(0.0)["w"])
    assert score(y).loss[0] == pytest.approx(-(y * log_softmax(logits)).sum(1).mean(), rel=1e-5)


def test_sixteen_bits_are_enough_for_logits():
    """Cross-entropy near 0 would vanish in the rounding of float16."""
    logits = jnp.array([[12.0, 0.0, 1.0]], jnp.float16)
    expected = -log_softmax(np.asarray(logits))[0, 0]
    assert float(cross_entropy(logits, jnp.array([0]))[0]) == pytest.approx(expected, rel=1e-2)


# -- regression ----------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2])
def test_regression_against_numpy(columns):
    y = np.random.default_rng(3).normal(size=(N, columns))
    curve = score(y.astype(np.float32), columns, task=REGRESSION)
    errors = inputs() @ np.asarray(line(columns)(0.5)["w"]) - y
    assert curve.loss[1] == pytest.approx((errors**2).mean(), rel=1e-5)
    assert curve.absolute_error[1] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert set(curve.values) == {"loss", "absolute_error"}
    assert curve.worst() == curve.loss.max()
    assert curve.worst("absolute_error") == curve.absolute_error.max()
    middle = curve.loss[1] - (curve.loss[0] + curve.loss[2]) / 2
    assert curve.barrier() == pytest.approx(max(middle, 0))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(N, np.float32), r"shape \(12, 1\), got shape \(12,\); reshape one of them"),
        (np.zeros((N, 2), np.float32), r"shape \(12, 1\), got shape \(12, 2\)"),
        (np.full((N, 1), np.inf, np.float32), "the targets hold NaN or infinite values"),
        (np.zeros((N, 1), bool), "targets that are numbers, got bool"),
    ],
)
def test_targets_that_do_not_fit(y, message):
    with pytest.raises(ValueError, match=message):
        score(y, 1, task=REGRESSION)


# -- next-token prediction -----------------------------------------------------------------


def language_model(p, x):
    return p["w"][x]  # bigrams: (examples, positions, vocabulary)


def bigrams():
    rng = np.random.default_rng(4)
    make = lambda: {"w": jnp.asarray(rng.normal(size=(7, 7)), jnp.float32)}
    tokens = rng.integers(0, 7, (N, 6))
    return Linear(make(), make()), tokens[:, :-1], tokens[:, 1:].copy()


def test_next_token_against_numpy():
    path, x, y = bigrams()
    y[3, 2:] = -100
    curve = mcjax.evaluate(path, language_model, (x, y), 3, task=NEXT_TOKEN, chunk=5)
    log_p = log_softmax(np.asarray(path(0.5)["w"])[x])
    losses, right = [], []
    for i in range(N):
        counted = y[i] != -100
        picked = log_p[i][np.arange(5)[counted], y[i][counted]]
        losses.append(-picked.mean())
        right.append((log_p[i].argmax(-1) == y[i])[counted].mean())
    assert curve.loss[1] == pytest.approx(np.mean(losses), rel=1e-5)
    assert curve.accuracy[1] == pytest.approx(np.mean(right), rel=1e-5)


def test_unsigned_tokens_all_count():
    path, x, y = bigrams()
    signed, unsigned = (
        mcjax.evaluate(path, language_model, (x, y.astype(d)), 2, task=NEXT_TOKEN).loss
        for d in (np.int32, np.uint8)
    )
    np.testing.assert_allclose(signed, unsigned, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:, 0], r"integer labels of shape \(12,\) for logits of shape \(12, 5, 7\)"),
        (lambda y: y.astype(np.float32), "integers of shape"),
        (lambda y: y + 1, r"labels lie in \[1, 7\], expected classes from 0 to 6"),
        (lambda y: y - 1, r"labels lie in \[-1, 5\]"),
        (lambda y: np.where(np.arange(N)[:, None] == 4, -100, y), "no token of example 4 counts"),
    ],
)
def test_tokens_that_do_not_fit(change, message):
    path, x, y = bigrams()
    with pytest.raises(ValueError, match=message):
        mcjax.evaluate(path, language_model, (x, change(y)), 2, task=NEXT_TOKEN)


# -- own tasks -----------------------------------------------------------------------------


def detection():
    """Labels that are a pytree, and two metrics."""
    box = lambda out, y: jnp.sum((out[:, :2] - y["box"]) ** 2, -1)
    hit = lambda out, y: (out[:, 2] > 0) == (y["there"] > 0)
    return mcjax.Task("detection", {"error": box, "hits": hit}, {"error": "high", "hits": "low"},
                      loss="error", axes={"error": "box error", "hits": "found (%)"})  # fmt: skip


def test_an_own_task_with_labels_that_are_a_tree(tmp_path):
    y = {"box": np.zeros((N, 2), np.float32), "there": np.arange(N) % 2}
    curve = score(y, task=detection(), chunk=5)
    out = inputs() @ np.asarray(line()(0.5)["w"])
    assert curve.error[1] == pytest.approx((out[:, :2] ** 2).sum(1).mean(), rel=1e-5)
    assert curve.hits[1] == pytest.approx(((out[:, 2] > 0) == (y["there"] > 0)).mean())
    assert curve.worst() == curve.worst("error") == curve.error.max()
    assert curve.worst("hits") == curve.hits.min()
    assert "detection" in curve.summary()
    curve.plot(tmp_path / "curve.png")
    left, right = curve.plot()
    assert (left.get_ylabel(), right.get_ylabel()) == ("box error", "found (%)")
    np.testing.assert_allclose(right.lines[0].get_ydata(), 100 * curve.hits)


def bad(**parts):
    metric = lambda out, y: out[:, 0]
    return mcjax.Task(
        **({"name": "own", "metrics": {"loss": metric}, "worse": {"loss": "high"}} | parts)
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"metrics": {}}, "loss: 'loss' is none of the metrics, none"),
        ({"loss": "error"}, "loss: 'error' is none of the metrics, loss"),
        ({"worse": {}}, r"worse\['loss'\] must be 'high' or 'low'.*got None"),
        ({"worse": {"loss": "up"}}, "got 'up'"),
        ({"metrics": {"loss": 3}}, r"metrics\['loss'\] must be a function, got a int"),
        ({"metrics": {"t": min}, "worse": {"t": "low"}, "loss": "t"}, "'t' cannot be a metric's"),
        ({"read": "logits"}, "read must be a function, got a str"),
    ],
)
def test_tasks_that_are_none(parts, message):
    with pytest.raises(ValueError, match=message):
        bad(**parts)


def test_a_metric_must_return_one_value_for_each_example():
    for metric in (lambda out, y: out, lambda out, y: out.mean(), lambda out, y: out[:1, 0]):
        task = bad(metrics={"loss": metric})
        with pytest.raises(ValueError, match=r"metrics\['loss'\] returned shape .*for a batch of"):
            task.losses(jnp.ones((N, C)), CLASSES)
        with pytest.raises(ValueError, match=r"metrics\['loss'\] returned shape .*for a batch of"):
            task.values(jnp.ones((N, C)), CLASSES)


def test_tasks_are_values():
    parts = {"metrics": dict(CLASSIFICATION.metrics), "worse": dict(CLASSIFICATION.worse)}
    one, two = (bad(**parts) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != CLASSIFICATION
    parts["metrics"]["loss"] = None  # what was handed in is not what is kept
    assert one == two
    with pytest.raises(TypeError):
        one.metrics["loss"] = None
    for task in (CLASSIFICATION, NEXT_TOKEN, REGRESSION):
        assert pickle.loads(pickle.dumps(task)) == copy.deepcopy(task) == task
        assert mcjax.tasks.from_dict(json.loads(json.dumps(task.to_dict()))) is task
    read = mcjax.tasks.from_dict(detection().to_dict())
    assert read.worst("hits", [0.5, 1.0]) == 0.5
    with pytest.raises(ValueError, match="read from a file"):
        read.losses(jnp.ones((N, C)), CLASSES)


def test_equal_tasks_compile_once():
    traced = []

    @partial(jax.jit, static_argnames="task")
    def f(out, y, task):
        traced.append(task)
        return task.losses(out, y).mean()

    out, y = jnp.ones((N, C)), jnp.zeros(N, int)
    for _ in range(2):
        f(out, y, task=CLASSIFICATION.reading(jnp.tanh))
    assert len(traced) == 1
    # Under a transformation labels are no values: what can be checked is.
    with pytest.raises(ValueError, match="integer labels of shape"):
        jax.jit(lambda y: CLASSIFICATION.check(out, y))(jnp.zeros(N + 1, int))
