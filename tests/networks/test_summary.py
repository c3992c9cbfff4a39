"""A summary path beside an encoder: in every method that reads embeddings, and through a feature map that is changed on its way."""

import pytest
import torch

from cm2.batch import Modality
from cm2.config import Config
from cm2.kinds import build_encoder
from cm2.kinds.series import Series
from cm2.networks.encoders import SummaryPath

SERIES = Modality("series", "series", (6, 4))


def _encoder(kind: str = "lstm") -> SummaryPath:
    encoder = build_encoder(SERIES, Config.from_profile("smoke", {"encoder.series.summary": 5, "encoder.series.kind": kind}).encoder)
    assert isinstance(encoder, SummaryPath)
    return encoder


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_the_vector_has_both_parts(kind):
    encoder, x = _encoder(kind).eval(), torch.randn(7, 6, 4)
    z = encoder(x)
    assert z.shape == (7, encoder.output_dim) == (7, encoder.encoder.output_dim + 5)
    torch.testing.assert_close(z[:, :-5], encoder.encoder(x))
    scaled = torch.nn.functional.batch_norm(Series().columns(x), encoder.scale.running_mean, encoder.scale.running_var).clamp(-5, 5)
    torch.testing.assert_close(z[:, -5:], encoder.linear(scaled))


def test_statistics_are_standardised_and_clipped():
    encoder = _encoder().train()
    encoder.dropout.p = 0.0
    x = torch.randn(200, 6, 4)
    x[0] = 1e4
    seen = []
    encoder.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(x)
    assert seen[0].abs().max() == 5
    assert encoder(x[:1]).isfinite().all(), "one stay has no variance"


def test_a_changed_map_keeps_its_summary():
    encoder, x = _encoder().eval(), torch.randn(3, 6, 4)
    features = encoder.features(x)
    changed = encoder.pool(features.affine(torch.full((3, encoder.feature_dim), 2.0)))
    torch.testing.assert_close(changed[:, -5:], encoder(x)[:, -5:])
    assert (changed[:, :-5] != encoder(x)[:, :-5]).any()


def test_bad_width():
    with pytest.raises(ValueError, match=r"encoder\.series\.summary"):
        Config.from_profile("smoke", {"encoder.series.summary": -1})
