"""Goals: limits on either side, and models that are unfinished."""

import math

import pytest

from vdm_jax.demo import goals, timed
from vdm_jax.errors import UserError


@pytest.mark.parametrize(
  ("value", "at_least", "strict", "met"),
  [
    (2.0, True, False, True),
    (2.0, True, True, False),
    (2.1, True, True, True),
    (1.9, True, False, False),
    (2.0, False, False, True),
    (2.0, False, True, False),
    (1.9, False, True, True),
    (2.1, False, False, False),
    (math.nan, True, False, False),
    (math.inf, True, False, True),
  ],
)
def test_met(value, at_least, strict, met):
  goal = goals.Goal("x", value, 2.0, at_least, strict)
  assert goal.met is met
  assert goal.to_json()["met"] is met
  assert ("NOT met" in goals.text([goal])) is not met


def test_unknown_is_null():
  assert goals.Goal("x", math.nan, 1.0).to_json()["value"] is None


def test_text_says_limit_and_value():
  text = goals.text([goals.Goal("share", 0.123, 0.2, at_least=False)])
  assert "met      share: 0.123 (at most 0.2)" in text


def test_unfinished():
  assert goals.unfinished(700, 1000) == ""
  text = goals.unfinished(500, 1000)
  assert "500 steps" in text and "1000 or so" in text and "DEMO_SECONDS" in text


@pytest.mark.parametrize("seconds", [0.0, -1.0, 9.9, math.nan])
def test_too_little_time_is_refused(seconds):
  with pytest.raises(UserError, match="DEMO_SECONDS of make.*expected 10 or more"):
    timed.check_seconds(seconds)


def test_too_little_time_for_a_first_stage_names_what_both_need():
  timed.check_seconds(25.0, 0.4)
  with pytest.raises(UserError, match="`seconds=24.*`.*expected 25 or more"):
    timed.check_seconds(24.0, 0.4)
