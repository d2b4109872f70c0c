"""PyTorch's modules: the same outputs, their names, and symmetries found in them."""

from __future__ import annotations

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

from ..pages import ROOT, run_page

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'mcjax[torch]'")
if importlib.util.find_spec("torchax") is None:
    pytest.skip("torchax is not installed: pip install 'mcjax[torch]'", allow_module_level=True)
safetensors_torch = pytest.importorskip("safetensors.torch")
interop = mcjax.interop.torch
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def small(seed=0):
    """A convolutional module with batch normalisation, whose statistics are not trivial."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 6, 3, stride=2, bias=False), torch.nn.BatchNorm2d(6), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 4),
    )  # fmt: skip
    randomise(module)
    return module.eval()


def randomise(module):
    """Every parameter and statistic away from where it is initialised: all are seen in outputs."""
    with torch.no_grad():
        for value in module.parameters():
            value += 0.1 * torch.randn_like(value)
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value += 0.3 * torch.randn_like(value)
            elif name.endswith("running_var"):
                value *= 1 + torch.rand_like(value)
            elif name.endswith("num_batches_tracked"):
                value += 2**33


def images(size, count=4):
    return np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32)


def torchs(module, *x):
    with torch.no_grad():
        return module(*(torch.from_numpy(v) for v in x)).numpy()


def same_state(module, state):
    expected = module.state_dict()
    assert list(state) == list(expected)
    for name, value in expected.items():
        assert (state[name].dtype, state[name].shape) == (value.dtype, value.shape), name
        bits = lambda v: v.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(bits(state[name]), bits(value)), name


def agrees(module, apply_fn, params, x):
    """float64's outputs are no further from JAX's than a few times what torch's float32 is."""
    ours, theirs = np.asarray(jax.jit(apply_fn)(params, x)), torchs(module, x)
    module.double()
    exact = torchs(module, x.astype(np.float64))
    module.float()
    scale = np.abs(exact).max()
    assert np.abs(ours - exact).max() <= 8 * np.abs(theirs - exact).max() + 1e-6 * scale


def test_a_module_comes_and_goes_bit_for_bit():
    module = small()
    apply_fn, params = interop.from_module(module)
    agrees(module, apply_fn, params, images(9))
    same_state(module, interop.to_state_dict(params, module))
    module.to(torch.bfloat16)
    same_state(module, interop.to_state_dict(interop.from_module(module)[1], module))
    assert params["1.num_batches_tracked"].dtype == np.int64  # 2**33 would not fit JAX's


def test_parameters_belong_to_whoever_has_them():
    """Training the module afterwards, or in place, moves neither parameters nor the function."""
    module, x = small(), images(9)
    apply_fn, params = interop.from_module(module)
    before = np.asarray(apply_fn(params, x))
    with torch.no_grad():
        for value in module.parameters():
            value.zero_()
    module.train()
    np.testing.assert_array_equal(apply_fn(params, x), before)
    module.eval()
    module.load_state_dict(interop.to_state_dict(params, module))
    np.testing.assert_allclose(torchs(module, x), before, rtol=1e-4, atol=1e-5)


class Everything(torch.nn.Module):
    """Tied weights, buffers that are not kept, constants of its own, named inputs and outputs."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("positions", torch.linspace(0, 1, 5)[:, None], persistent=False)
        self.constant = torch.linspace(1, 2, 8)

    def forward(self, tokens, scale=None):
        h = self.embed(tokens) * self.constant + self.positions
        mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
        h = h + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        h = h + torch.arange(5)[:, None] / 5
        out = self.head(torch.nn.functional.gelu(h))
        return {"logits": out if scale is None else out * scale, "nothing": None}


def test_tied_weights_constants_and_containers():
    torch.manual_seed(0)
    module = Everything().eval()
    randomise(module)
    apply_fn, params = interop.from_module(module)
    assert "head.weight" not in params
    tokens = np.random.default_rng(0).integers(0, 11, (3, 5))
    for x in ({"tokens": tokens, "scale": np.float32(2)}, (tokens, np.float32(2))):
        out = jax.jit(apply_fn)(params, x)
        expected = module(torch.from_numpy(tokens), torch.tensor(2.0))["logits"].detach()
        np.testing.assert_allclose(out["logits"], expected, rtol=1e-4, atol=1e-5)
        assert out["nothing"] is None
    same_state(module, interop.to_state_dict(params, module))
    state = dict(module.state_dict())
    assert state.pop("head.weight") is not None
    assert set(interop.from_state_dict(state, module)) == set(params)  # either is enough
    state["head.weight"] = state["embed.weight"] + 1
    with pytest.raises(ValueError, match=r"'embed.weight' and 'head.weight' are one parameter"):
        interop.from_state_dict(state, module)


def test_what_does_not_fit_is_named():
    module = small()
    _, params = interop.from_module(module)
    module[1].train()
    with pytest.raises(ValueError, match="part '1' is in training mode"):
        interop.from_module(module)
    module.eval()
    with pytest.raises(ValueError, match=r"torch\.nn\.Module, got a dict"):
        interop.from_module(params)
    with pytest.raises(ValueError, match="meta device"):
        interop.from_module(torch.nn.Linear(2, 3, device="meta").eval())
    with pytest.raises(ValueError, match=r"leaf '0.weight' has shape \(8, 3, 3\), expected"):
        interop.to_state_dict({**params, "0.weight": params["0.weight"][..., 0]}, module)
    for convert, name in ((interop.to_state_dict, "params: leaf"), (interop.from_state_dict, "")):
        for wrong in (1j, None):
            with pytest.raises(ValueError, match=f"{name}.*'0.bias' is of type .*expected"):
                convert({**params, "0.bias": np.full(8, wrong)}, module)
        with pytest.raises(ValueError, match=f"{name}.*'9.weight'"):
            convert({**params, "9.weight": params["0.weight"]}, module)
        with pytest.raises(ValueError, match=f"{name}.*'0.bias'"):
            convert({k: v for k, v in params.items() if k != "0.bias"}, module)
    parallel = {f"module.{k}": v for k, v in params.items()}
    with pytest.raises(ValueError, match=r"'module.' before them .*k.removeprefix\('module.'\)"):
        interop.from_state_dict(parallel, module)


def test_names_with_slashes_come_back_from_files(tmp_path):
    """`mcjax.load` splits names of other programs' files there."""
    parts = torch.nn.ModuleDict({"a/b": torch.nn.Linear(2, 3), "c": torch.nn.Linear(2, 3)}).eval()
    safetensors_torch.save_file(parts.state_dict(), tmp_path / "a.safetensors")
    read = interop.from_state_dict(mcjax.load(tmp_path / "a.safetensors"), parts)
    same_state(parts, interop.to_state_dict(read, parts))


class Keeping(torch.nn.Module):
    """Keeps what it computes, in a buffer that no state dict has and beside it."""

    def __init__(self):
        super().__init__()
        self.dense = torch.nn.utils.weight_norm(torch.nn.Linear(6, 3))
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += 1
        self.last = self.dense(x) * self.calls
        return self.last


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_calls_do_not_see_each_other():
    """And a weight that is computed from others (weight_norm) is computed from those given."""
    module, x = Keeping().eval(), np.ones((2, 6), np.float32)
    apply_fn, params = interop.from_module(module)
    expected = torchs(module, x)
    for _ in range(2):
        np.testing.assert_allclose(jax.jit(lambda p, x: apply_fn(p, x))(params, x), expected, 1e-5)
        np.testing.assert_allclose(apply_fn(params, x), expected, 1e-5)
    twice = {**params, "dense.weight_g": 2 * params["dense.weight_g"], "dense.bias": 0}
    once = {**twice, "dense.weight_g": params["dense.weight_g"]}
    np.testing.assert_allclose(apply_fn(twice, x), 2 * apply_fn(once, x), 1e-5)


@pytest.mark.parametrize("size", [(9,), (9, 10), (7, 6, 5)], ids=len)
def test_windows_of_average_pooling_at_the_edge(size):
    pool = (torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d)[len(size) - 1]
    x = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)
    cut = {"kernel_size": 3, "stride": 2, "ceil_mode": True}
    given = lambda **options: interop.from_module(pool(**options).eval())
    for options in (
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "ceil_mode": True},
        cut,
        {**cut, "padding": 1, "count_include_pad": False},
    ):
        apply_fn, params = given(**options)
        np.testing.assert_allclose(apply_fn(params, x), torchs(pool(**options), x), atol=1e-6)
    apply_fn, params = given(**cut, padding=1)
    with pytest.raises(ValueError, match="count_include_pad=False"):
        apply_fn(params, x)


class Sorting(torch.nn.Module):
    def forward(self, x):
        return x.sort(1)


def test_several_outputs_of_torchs_own_kind():
    apply_fn, params = interop.from_module(Sorting().eval())
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    values, order = jax.jit(apply_fn)(params, x)
    np.testing.assert_array_equal(values, np.sort(x, 1))
    np.testing.assert_array_equal(order, np.argsort(x, 1))


class Drawing(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x)


def test_modules_that_no_function_can_be_are_refused():
    apply_fn, params = interop.from_module(Drawing().eval())
    with pytest.raises(ValueError, match="draws random numbers"):
        apply_fn(params, np.ones(3))
    with pytest.raises(ValueError, match=r"compiled by torch\.jit"):
        interop.from_module(torch.jit.script(torch.nn.Linear(2, 3).eval()))
    module = torch.nn.Linear(2, 3).eval()
    module.opened = (i for i in range(3))
    with pytest.raises(ValueError, match="cannot be copied"):
        interop.from_module(module)


def resnet():
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    return vision.resnet18(num_classes=10)


def mobilenet():
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    return vision.mobilenet_v2(num_classes=10, width_mult=0.25)


def vit():
    """ViT-B/16's class, with fewer units and layers."""
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    return vision.VisionTransformer(32, 16, 3, 4, 32, 64, num_classes=10)


# Module → (side of images, its groups: (shape → how many)).
PUBLISHED = {
    resnet: (64, {(64,): 3, (128,): 3, (256,): 3, (512,): 3}),
    # Streams between blocks and the last layer, and the 16 expansions by 6. At this width the stem
    # is as wide as the first block, and added to it.
    mobilenet: (
        32,
        {
            (8,): 3,
            (16,): 1,
            (24,): 1,
            (40,): 1,
            (80,): 1,
            (1280,): 1,
            (48,): 6,
            (96,): 4,
            (144,): 3,
            (240,): 3,
        },
    ),
    vit: (32, {(32,): 1, (4,): 3, (4, 8): 6, (64,): 3}),
}


@pytest.mark.parametrize("build", PUBLISHED, ids=lambda b: b.__name__)
def test_published_models_are_carried_and_their_symmetries_recovered(build):
    torch.manual_seed(0)
    module = build()
    randomise(module)
    module.eval()
    size, groups = PUBLISHED[build]
    x = images(size, 2)
    apply_fn, params = interop.from_module(module)
    agrees(module, apply_fn, params, x)
    same_state(module, interop.to_state_dict(params, module))
    network = mcjax.trace(apply_fn, params, x)
    shapes = [g.shape for g in network.groups.values()]
    assert {s: shapes.count(s) for s in shapes} == groups
    planted = network.random_permutations(jax.random.key(1))
    moved = network.permute(planted, params)
    np.testing.assert_allclose(apply_fn(moved, x), apply_fn(params, x), rtol=1e-3, atol=1e-4)
    # The moved network is torch's too.
    module.load_state_dict(interop.to_state_dict(moved, module))
    np.testing.assert_allclose(torchs(module, x), apply_fn(params, x), rtol=1e-3, atol=1e-4)
    found = mcjax.align.match_weights(network, params, moved, key=jax.random.key(2))
    back = found.action(network)(moved)
    for name, value in params.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_a_merged_checkpoint_loads_bit_for_bit(tmp_path):
    """Through files alone: torch writes, mcjax merges and writes, torch reads."""
    modules = [small(seed) for seed in (0, 1)]
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for module, file in zip(modules, files, strict=True):
        safetensors_torch.save_file(module.state_dict(), file)
    apply_fn, params = interop.from_module(modules[0])
    a, b = (interop.from_state_dict(mcjax.load(f), modules[0]) for f in files)
    for name, value in params.items():
        np.testing.assert_array_equal(value, a[name])
    network = mcjax.trace(apply_fn, a, images(9))
    merged = mcjax.merge.soup(network, [a, b], key=jax.random.key(0))
    safetensors_torch.save_file(interop.to_state_dict(merged, modules[0]), tmp_path / "torchs")
    mcjax.save(tmp_path / "ours", merged)
    state = safetensors_torch.load_file(tmp_path / "torchs")
    module = small(2)
    assert str(module.load_state_dict(state)) == "<All keys matched successfully>"
    again = interop.from_module(module)[1]
    assert set(again) == set(merged)
    for name, value in again.items():
        assert value.dtype == params[name].dtype
        np.testing.assert_array_equal(value, np.asarray(merged[name]).astype(value.dtype))
    module.load_state_dict(safetensors_torch.load_file(tmp_path / "ours"))
    same_state(module, interop.to_state_dict(merged, module))
    np.testing.assert_allclose(torchs(module, images(9)), apply_fn(merged, images(9)), atol=1e-5)


def test_the_page_runs():
    assert run_page(ROOT / "docs" / "pytorch.md", {"jnp": jnp, "mcjax": mcjax}) > 0
    assert "torch" in sys.modules
