"""LSMT: attention against torch's, tokens of every kind, what is masked, sizes of the original."""

import pytest
import torch
from torch import nn

from cm2.config import LSMTConfig
from cm2.methods.baselines.attention import Attention
from cm2.methods.baselines.lsmt import _positions
from cm2.methods.baselines.lsmt_tokens import LatentTokens, PatchTokens
from tests.methods.baselines.cases import IMAGE, MIXED, NOTE, SERIES, build, make_batch


def test_attention_is_torchs_where_heads_divide_the_width():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3, 4), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    theirs.in_proj_weight.data = torch.cat((ours.query.weight, ours.key_value.weight)).detach()
    theirs.out_proj.weight.data = ours.output.weight.detach()
    ours.output.bias.data.zero_()
    x, context = torch.randn(4, 5, 12), torch.randn(4, 7, 12)
    mask = torch.rand(4, 7) < 0.5
    mask[:, 0] = True
    expected = theirs(x, context, context, key_padding_mask=~mask)[0]
    torch.testing.assert_close(ours(x, context, mask), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)


def test_attention_to_nothing_is_nothing():
    attention, mask = Attention(8, 2, 5), torch.tensor([[True, False], [False, False]])
    x, context = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 2, 8)
    read = attention(x, context, mask)
    assert read[0].any() and not read[1].any()
    read.sum().backward()
    assert x.grad.isfinite().all() and not x.grad[1].any()


def test_tokens_of_every_modality_and_which_of_them_count():
    batch = make_batch(MIXED[5], stays=31)
    tokens, mask = build("lsmt", MIXED[5]).tokens(batch)
    lengths = {"notes": 16, "series": 4, "image": 5, "laboratory": 4, "descriptors": 1}
    assert tokens.shape == (31, 1 + sum(lengths.values()), 16)
    assert mask[:, 0].all()
    parts = mask[:, 1:].split([lengths[m.name] for m in MIXED[5]], dim=1)
    for m, (modality, part) in enumerate(zip(MIXED[5], parts, strict=True)):
        text = modality.kind == "text"
        expected = batch.values[modality.name]["attention_mask"].flatten(1).bool() if text else torch.ones_like(part)
        assert torch.equal(part, expected & batch.present[:, m, None])


def test_padding_is_not_read():
    batch = make_batch((SERIES, NOTE), stays=6, present=torch.ones(6, 2, dtype=torch.bool))
    method = build("lsmt", (SERIES, NOTE)).eval()
    before = method.predict(batch)
    note = batch.values["note"]
    note["input_ids"][note["attention_mask"] == 0] = 49
    torch.testing.assert_close(method.predict(batch), before, rtol=1e-6, atol=1e-7)


def test_positions_are_sines_and_cosines():
    position = _positions(torch.zeros(1, 3, 6))
    rate = 10_000 ** (-2 / 6)
    torch.testing.assert_close(position[2, 0], torch.tensor(2.0).sin())
    torch.testing.assert_close(position[2, 1], torch.tensor(2.0).cos())
    torch.testing.assert_close(position[2, 2], torch.tensor(2 * rate).sin())
    assert _positions(torch.zeros(1, 3, 5)).shape == (3, 5)


def test_latents_see_the_order_of_steps():
    torch.manual_seed(0)
    tokens = LatentTokens(4, LSMTConfig(latents=3, latent_width=8, latent_layers=2, latent_heads=2))
    x = torch.randn(5, 7, 4)
    latents = tokens.features(x).values
    assert latents.shape == (5, 3, 8)
    assert not torch.allclose(tokens.features(x.flip(1)).values, latents)


def test_patches_are_those_of_the_original_vision_transformer():
    with torch.device("meta"):
        tokens = PatchTokens((384, 384), LSMTConfig())
    colours, classifier = 2 * 16 * 16 * 384, 384 * 1000 + 1000
    assert sum(p.numel() for p in tokens.parameters()) + colours + classifier == 22_196_584  # ViT-S/16 for 384 pixels
    assert tokens.position.shape == (1 + 24 * 24, 384)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"baseline__lsmt__patch": 5}, r"images of \(32, 32\) pixels do not fall into patches of 5; set baseline.lsmt.patch"),
        ({"baseline__lsmt__image_heads": 3}, "width = 16 is not a multiple of image_heads = 3"),
        ({"baseline__lsmt__latent_heads": 3}, "latent_width = 8 is not a multiple of latent_heads = 3"),
        ({"baseline__lsmt__layers": 0}, "baseline.lsmt.layers: expected a positive number, got 0"),
        (
            {"baseline__encoders": "comon"},
            r"baseline.encoders: unknown value 'comon'; choose one of own, common \(did you mean 'common'\?\)",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build("lsmt", (SERIES, IMAGE), **overrides)


def test_images_of_another_shape_are_refused():
    tokens = build("lsmt", (SERIES, IMAGE)).encoders["image"]
    with pytest.raises(ValueError, match=r"expected \(B, 32, 32\), got \(2, 16, 32\)"):
        tokens.features(torch.rand(2, 16, 32))


@pytest.mark.parametrize(("series", "image"), [("lstm", "resnet"), ("transformer", "vit")])
def test_common_encoders_take_the_place_of_its_own(series, image):
    batch = make_batch((SERIES, IMAGE), stays=6)
    method = build("lsmt", (SERIES, IMAGE), baseline__encoders="common", encoder__series__kind=series, encoder__image__kind=image)
    assert {name: type(encoder).__name__ for name, encoder in method.encoders.items()} == {
        "series": {"lstm": "LSTMEncoder", "transformer": "TransformerEncoder"}[series],
        "image": {"resnet": "ResNetEncoder", "vit": "ViTEncoder"}[image],
    }
    method.loss(batch)["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {n for n in without if not n.startswith(tuple(method.unused_parameters))}
