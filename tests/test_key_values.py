"""Settings written as KEY=VALUE."""

import pytest

from vdm_jax import key_values
from vdm_jax.errors import UserError


def test_values_are_pythons_or_text():
  texts = ["steps=50", "eta=0.5", "sampler=ddim", "mults=(1, 2)", "respacing=", "a=b=c"]
  assert key_values.parse(texts, "sampling") == {
    "steps": 50, "eta": 0.5, "sampler": "ddim", "mults": (1, 2), "respacing": "",
    "a": "b=c",
  }  # fmt: skip
  assert key_values.parse(["steps=1", "steps=2"], "sampling") == {"steps": 2}
  assert key_values.parse(["a={[1]: 2}"], "sampling") == {"a": "{[1]: 2}"}


@pytest.mark.parametrize("text", ["steps", "=50", ""])
def test_another_form_is_named(text):
  message = f"^`sampling`: expected KEY=VALUE, found {text!r}$"
  with pytest.raises(UserError, match=message):
    key_values.parse(["eta=1", text], "sampling")


def test_a_key_is_one_of_those_there_are():
  assert key_values.split("chips=8", "argument", ["chips"]) == ("chips", "8")
  with pytest.raises(UserError, match="with a key of chips, images, found 'chip=8'"):
    key_values.split("chip=8", "argument", ["images", "chips"])
  with pytest.raises(UserError, match="a key of none, it takes none, found 'a=1'"):
    key_values.split("a=1", "argument", [])
