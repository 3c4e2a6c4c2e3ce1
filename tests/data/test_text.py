"""Captions to embeddings."""

import sys
from concurrent import futures

import numpy as np
import pytest

from vdm_jax.data import text
from vdm_jax.errors import UserError


class TestBytes:
  def test_is_the_same_everywhere(self):
    tokens, mask = text.make_encoder("bytes", 8, dim=4)("été")
    assert tokens.shape == (8, 4) and tokens.dtype == np.float32
    assert mask.tolist() == [True] * 5 + [False] * 3  # UTF-8: two bytes an é.
    assert not tokens[5:].any()
    # A saved model depends on these numbers.
    np.testing.assert_allclose(tokens[1, :2], [-0.824439, -0.333741], atol=1e-4)

  def test_order_matters_and_length_is_cut(self):
    encoder = text.make_encoder("bytes", 4, dim=16)
    assert not np.allclose(encoder("ab")[0].sum(0), encoder("ba")[0][::-1].sum(0) + 1)
    assert not np.allclose(encoder("ab")[0][0], encoder("ba")[0][1])
    np.testing.assert_array_equal(encoder("abcd")[0], encoder("abcdefg")[0])
    assert encoder("abcdefg")[1].all()

  def test_no_caption_has_no_token(self):
    tokens, mask = text.make_encoder("bytes", 4)("")
    assert not tokens.any() and not mask.any()

  def test_encodes_each_caption_once(self, monkeypatch):
    encoder = text.make_encoder("bytes", 8)
    calls, embed = [], encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda c: calls.append(c) or embed(c))
    with futures.ThreadPoolExecutor(4) as pool:
      list(pool.map(encoder, ["a", "b", "a", "a", "b"] * 20))
    assert sorted(calls) == ["a", "b"]

  def test_forgets_the_oldest(self, monkeypatch):
    encoder = text.make_encoder("bytes", 8, dim=4)
    monkeypatch.setattr(text, "_CACHE_BYTES", 100)
    for caption in ("aaaaa", "bbbbb", "ccccc"):
      encoder(caption)
    assert list(encoder._cache) == ["ccccc"]


class TestSpecs:
  def test_unknown(self):
    with pytest.raises(UserError, match=r"unknown text encoder 'byte'.*'bytes'"):
      text.make_encoder("byte")

  @pytest.mark.parametrize(("length", "dim"), [(0, 8), (4, 7)])
  def test_sizes(self, length, dim):
    with pytest.raises(UserError, match="expected"):
      text.make_encoder("bytes", length, dim=dim)

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
