"""The table between state dicts and Flax parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vdm_jax.interop import mapping
from vdm_jax.interop.mapping import CONV, KEEP, LINEAR, Entry

PARAMS = {
  "stem": {"kernel": np.arange(3 * 3 * 2 * 4.0).reshape(3, 3, 2, 4)},
  "out": {"kernel": np.arange(20.0).reshape(4, 5), "bias": np.arange(5.0)},
}
ENTRIES = [
  Entry("in.weight", "stem/kernel", CONV),
  Entry("out.weight", "out/kernel", LINEAR),
  Entry("out.bias", "out/bias"),
]
SHAPES = {"in.weight": (4, 2, 3, 3), "out.weight": (5, 4), "out.bias": (5,)}


@pytest.mark.parametrize(
  "layout, theirs, ours",
  [
    (KEEP, (7,), (7,)),
    (LINEAR, (3, 5), (5, 3)),
    (CONV, (6, 4, 3), (3, 4, 6)),
    (CONV, (6, 4, 2, 3), (2, 3, 4, 6)),
    (CONV, (6, 4, 1, 2, 3), (1, 2, 3, 4, 6)),
    (mapping.pointwise(1), (6, 4, 1), (4, 6)),
    (mapping.pointwise(3), (6, 4, 1, 1, 1), (4, 6)),
  ],
)
def test_layouts_are_inverse(layout, theirs, ours):
  array = np.random.default_rng(0).standard_normal(theirs)
  assert layout.to_flax(array).shape == ours
  np.testing.assert_array_equal(layout.to_torch(layout.to_flax(array)), array)


def test_layers_agree_with_pytorch():
  torch = pytest.importorskip("torch")
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 5, 6, 4)).astype(np.float32)
  theirs = torch.nn.Conv2d(4, 3, (3, 5), padding=(1, 2))
  state = {key: value.detach().numpy() for key, value in theirs.state_dict().items()}
  entries = [Entry("weight", "kernel", CONV), Entry("bias", "bias")]
  ours = nn.Conv(3, (3, 5), padding=((1, 1), (2, 2)))
  found = ours.apply({"params": mapping.to_params(entries, state)}, jnp.asarray(x))
  expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
  np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


def test_there_and_back():
  state = mapping.to_state(ENTRIES, PARAMS)
  assert {key: value.shape for key, value in state.items()} == SHAPES
  back = mapping.to_params(ENTRIES, state)
  jax.tree.map(np.testing.assert_array_equal, back, PARAMS)
  assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(back))


def test_shapes_need_no_values():
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), PARAMS)
  assert mapping.state_shapes(ENTRIES, shapes) == SHAPES
  huge = {"kernel": jax.ShapeDtypeStruct((1 << 20, 1 << 20), jnp.float32)}
  assert mapping.state_shapes([Entry("w", "kernel", LINEAR)], huge) == {
    "w": (1 << 20, 1 << 20)
  }


def test_compare_names_what_does_not_fit():
  assert not mapping.compare(ENTRIES, SHAPES, PARAMS)
  wrong = {**SHAPES, "in.weight": (4, 2, 3, 1), "more": (1,)}
  del wrong["out.bias"]
  found = mapping.compare(ENTRIES, wrong, PARAMS)
  assert found
  assert found.missing == ["out.bias"]
  assert found.unexpected == ["more"]
  assert found.misshaped == ["in.weight: expected (4, 2, 3, 3), found (4, 2, 3, 1)"]


@pytest.mark.parametrize(
  "entries",
  [
    ENTRIES[:2],
    [*ENTRIES, Entry("more", "more/bias")],
    [*ENTRIES[:2], ENTRIES[1]],
    [*ENTRIES[:2], Entry("out.weight", "out/bias")],
  ],
  ids=["too_few", "too_many", "path_twice", "key_twice"],
)
def test_a_format_that_does_not_match_the_model_is_a_bug(entries):
  with pytest.raises(ValueError, match="format"):
    mapping.compare(entries, SHAPES, PARAMS)
