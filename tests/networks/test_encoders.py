"""Encoders: shapes, initial weights, single rows, pretrained weights with and without a network."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from cm2.batch import Modality
from cm2.cohorts.text import train_tokenizer
from cm2.config import EncoderConfig, ImageEncoderConfig, SeriesEncoderConfig, TextEncoderConfig, VectorEncoderConfig
from cm2.kinds import build_encoder
from cm2.networks.encoders import (
    LSTMEncoder,
    ResNetEncoder,
    TextEncoder,
    TransformerEncoder,
    VectorEncoder,
    ViTEncoder,
    pretrained,
    text,
)

SMALL_BERT = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 32, "max_length": 12}
SMALL = EncoderConfig(
    SeriesEncoderConfig(hidden=8, layers=2, dropout=0.1),
    ImageEncoderConfig(depth=18),
    TextEncoderConfig(layers=1, hidden=16, heads=2, intermediate=32, max_length=12),
    VectorEncoderConfig(hidden=4),
)
ATTENTIVE = replace(
    SMALL,
    series=SeriesEncoderConfig(hidden=8, layers=2, kind="transformer", heads=2),
    image=ImageEncoderConfig(kind="vit", vit="small"),
)
MODALITIES = [
    Modality("bedside", "series", (24, 5)),
    Modality("radiograph", "image", (32, 32)),
    Modality("note", "text", (12,), vocabulary=50),
    Modality("admission", "vector", (6,)),
]


CASES = [(m, SMALL) for m in MODALITIES] + [(m, ATTENTIVE) for m in MODALITIES[:2]]
every_encoder = pytest.mark.parametrize(
    ("modality", "config"), CASES, ids=[f"{m.kind}-{'attentive' if c is ATTENTIVE else 'plain'}" for m, c in CASES]
)


def value(modality: Modality, rows: int):
    if modality.kind != "text":
        return torch.rand(rows, *modality.shape)
    ids = torch.randint(modality.vocabulary, (rows, *modality.shape))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(autouse=True)
def nothing_warned_yet():
    pretrained.warn_once.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    for module in (pretrained, text):
        monkeypatch.setattr(module, "reachable", lambda url: False)


@pytest.mark.parametrize("rows", [1, 3])
@every_encoder
def test_every_kind_encodes_and_trains(modality, config, rows):
    encoder = build_encoder(modality, config)
    assert encoder.training
    z = encoder(value(modality, rows))
    assert z.shape == (rows, encoder.output_dim)
    (z * torch.randn_like(z)).sum().backward()
    assert z.isfinite().all()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@every_encoder
def test_in_evaluation_a_row_does_not_depend_on_its_neighbours(modality, config):
    encoder = build_encoder(modality, config).eval()
    x = value(modality, 3)
    first = {k: v[:1] for k, v in x.items()} if isinstance(x, dict) else x[:1]
    torch.testing.assert_close(encoder(x)[:1], encoder(first), rtol=1e-4, atol=1e-5)


@every_encoder
@pytest.mark.parametrize("layers", [1, 3])
def test_the_two_halves_make_the_whole(modality, config, layers):
    encoder = build_encoder(modality, replace(config, series=replace(config.series, layers=layers))).eval()
    x = value(modality, 3)
    features = encoder.features(x)
    values, mask = features.tokens()
    assert features.values.shape[-1] == encoder.feature_dim
    assert values.shape == (3, mask.shape[1], encoder.feature_dim)
    torch.testing.assert_close(encoder.pool(features), encoder(x))
    means = torch.stack([v[m].mean(dim=0) for v, m in zip(values, mask, strict=True)])
    torch.testing.assert_close(features.mean(), means)
    scale, shift = torch.rand(2, 3, encoder.feature_dim)
    torch.testing.assert_close(features.affine(scale, shift).mean(), means * scale + shift)


def test_padding_is_no_token():
    encoder = TextEncoder(50, **SMALL_BERT).eval()
    x = value(MODALITIES[2], 2)
    x["attention_mask"][0, 5:] = 0
    short = {k: v[:1, :5] for k, v in x.items()}
    torch.testing.assert_close(encoder.features(x).mean()[:1], encoder.features(short).mean(), rtol=1e-4, atol=1e-5)
    assert encoder.features(x).tokens()[1].sum().item() == 5 + 12


def test_the_layers_of_a_series_drop_out_between_them():
    encoder = LSTMEncoder(5, hidden=64, layers=2, dropout=0.5)
    states = encoder.features(torch.randn(2, 7, 5))
    assert not torch.equal(encoder.pool(states), encoder.pool(states))
    assert (encoder.pool(states) == 0).float().mean() > 0.2


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"unknown kind of modality 'wave'; choose one of image, series"):
        build_encoder(Modality("ecg", "wave", (3,)), SMALL)


def test_lstm_initial_weights():
    lstm = LSTMEncoder(5, hidden=8).lstm
    for name, parameter in lstm.named_parameters():
        if "bias" in name:
            assert not parameter.any()
        elif "weight_hh" in name:
            torch.testing.assert_close(parameter.T @ parameter, torch.eye(8))
        else:
            assert parameter.abs().max() <= (6 / sum(parameter.shape)) ** 0.5


def test_lstm_is_the_last_state_of_the_top_layer():
    encoder = LSTMEncoder(5, hidden=8)
    x = torch.randn(3, 7, 5)
    torch.testing.assert_close(encoder(x), encoder.lstm(x)[0][:, -1])


def test_lstm_drops_out_and_one_layer_does_not_warn():
    encoder = LSTMEncoder(5, hidden=64, layers=1, dropout=0.5)
    x = torch.randn(2, 7, 5)
    assert (encoder(x) == 0).float().mean() > 0.2
    assert not (encoder.eval()(x) == 0).any()


@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 4)])
def test_series_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"series: expected \(B, T, 5\)"):
        LSTMEncoder(5)(torch.zeros(shape))


@pytest.mark.parametrize(("depth", "width"), [(18, 512), (34, 512), (50, 2048)])
def test_residual_networks(depth, width):
    assert ResNetEncoder(depth).output_dim == width


def test_residual_network_accepts_other_sizes_and_normalises_inside():
    encoder = ResNetEncoder(18).eval()
    seen = []
    encoder.network.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert encoder(torch.full((2, 33, 70), 0.485)).shape == (2, 512)
    assert seen[0].shape == (2, 3, 33, 70)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([0.0, (0.485 - 0.456) / 0.224, (0.485 - 0.406) / 0.225]))


@pytest.mark.parametrize("size", [32, 64])
def test_a_single_training_image_leaves_the_batch_statistics_alone(size):
    encoder = ResNetEncoder(18)
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    encoder(torch.rand(1, size, size))
    assert all(m.training and int(m.num_batches_tracked) == 0 for m in norms)
    encoder(torch.rand(2, size, size))
    assert all(int(m.num_batches_tracked) == 1 for m in norms)


def test_images_that_cannot_be_encoded_are_refused():
    with pytest.raises(ValueError, match="unknown depth 19; choose 10, 18, 34 or 50"):
        ResNetEncoder(19)
    with pytest.raises(ValueError, match=r"H, W >= 32, got \(2, 31, 64\)"):
        ResNetEncoder(18)(torch.zeros(2, 31, 64))
    with pytest.raises(ValueError, match=r"expected \(B, H, W\)"):
        ResNetEncoder(18)(torch.zeros(2, 4, 64, 64))


def test_imagenet_weights_that_cannot_be_reached_are_an_error(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for asked in (lambda: ResNetEncoder(18, pretrained=True), lambda: pretrained.imagenet_digest("resnet18")):
        with pytest.raises(ValueError, match=r"ImageNet weights of resnet18.*a random start with --set encoder\.image\.pretrained=false"):
            asked()


def test_a_stored_file_of_imagenet_weights_runs_no_code(no_network, monkeypatch, tmp_path, evil):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    stored = pretrained._imagenet("resnet18")[1]
    stored.parent.mkdir()
    torch.save({"fc.weight": evil}, stored)
    with pytest.raises(ValueError, match="is damaged"):
        ResNetEncoder(18, pretrained=True)


def test_default_text_encoder_is_tinybert():
    encoder = TextEncoder(30522)
    without_pooler = 14_350_248 - (312 * 312 + 312)
    assert sum(p.numel() for p in encoder.parameters()) == without_pooler
    assert encoder.output_dim == 312


def test_text_padding_is_not_read():
    encoder = TextEncoder(50, **SMALL_BERT).eval()
    ids = torch.randint(50, (2, 8))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    other = ids.clone()
    other[0, 5:] = 7
    z = encoder({"input_ids": ids, "attention_mask": mask})
    torch.testing.assert_close(z, encoder({"input_ids": other, "attention_mask": mask}))
    torch.testing.assert_close(z[:1], encoder({"input_ids": ids[:1, :5], "attention_mask": mask[:1, :5]}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_documents_of_a_text_are_read_one_by_one(pooling):
    encoder = TextEncoder(50, **SMALL_BERT, pooling=pooling).eval()
    ids = torch.randint(50, (2, 3, 8))
    mask = torch.ones_like(ids)
    mask[0, 1, 5:], mask[1, 2] = 0, 0
    z = encoder({"input_ids": ids, "attention_mask": mask})
    assert encoder.features({"input_ids": ids, "attention_mask": mask}).values.shape == (2, 3, 8, 16)
    alone = [[encoder({"input_ids": ids[i, d, None], "attention_mask": mask[i, d, None]})[0] for d in range(3 - i)] for i in range(2)]
    length = mask.sum(-1).float()
    for i in range(2):
        weight = torch.ones(3 - i) if pooling == "cls" else length[i, : 3 - i]
        expected = (torch.stack(alone[i]) * weight[:, None]).sum(0) / weight.sum()
        torch.testing.assert_close(z[i], expected, rtol=1e-4, atol=1e-5)


def test_texts_that_cannot_be_encoded_are_refused():
    with pytest.raises(ValueError, match="vocabulary of 0 ids"):
        TextEncoder(0)
    with pytest.raises(ValueError, match="hidden = 16 is not a multiple of heads = 3"):
        TextEncoder(50, **SMALL_BERT | {"heads": 3})
    ids = torch.zeros(1, 13, dtype=torch.long)
    with pytest.raises(ValueError, match=r"L <= 12, got \(1, 13\)"):
        TextEncoder(50, **SMALL_BERT)({"input_ids": ids, "attention_mask": ids + 1})


def test_a_pretrained_folder_is_loaded(tmp_path, no_network):
    stored = TextEncoder(50, **SMALL_BERT)
    stored.bert.save_pretrained(tmp_path)
    loaded = TextEncoder(50, pretrained=str(tmp_path), max_length=12)
    assert loaded.training and loaded.output_dim == 16
    for name, parameter in stored.bert.state_dict().items():
        torch.testing.assert_close(loaded.bert.state_dict()[name], parameter)
    assert {m.p for m in loaded.modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_pretrained_blocks_with_another_vocabulary_say_so(tmp_path, no_network):
    stored = TextEncoder(50, **SMALL_BERT)
    stored.bert.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="knows 50 tokens, this cohort's tokenizer has 70"):
        loaded = TextEncoder(70, pretrained=str(tmp_path), max_length=12)
    assert loaded({"input_ids": torch.full((1, 3), 69), "attention_mask": torch.ones(1, 3)}).isfinite().all()
    torch.testing.assert_close(
        loaded.bert.encoder.layer[0].attention.self.query.weight, stored.bert.encoder.layer[0].attention.self.query.weight
    )


def test_pretrained_folders_that_do_not_fit_are_refused(tmp_path, no_network):
    TextEncoder(50, **SMALL_BERT).bert.save_pretrained(tmp_path / "good")
    with pytest.raises(ValueError, match="has 12 positions, max_length is 20; lower max_length"):
        TextEncoder(50, pretrained=str(tmp_path / "good"), max_length=20)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no model in the folder"):
        TextEncoder(50, pretrained=str(tmp_path / "empty"))


def test_a_hub_that_cannot_be_reached_is_an_error(no_network):
    named = "nobody/no-such-model"
    for asked in (
        lambda: TextEncoder(50, **SMALL_BERT, pretrained=named),
        lambda: text.text_digest(named),
        lambda: pretrained.pretrained_tokenizer(named),
    ):
        with pytest.raises(ValueError, match=r"not on this machine, and the hub cannot be reached.*a random start with --set encoder.text"):
            asked()


@pytest.mark.filterwarnings("ignore:.*has no tokenizer")
def test_the_digest_of_a_model_is_that_of_its_weights_and_tokenizer(tmp_path, no_network):
    encoder, folder = TextEncoder(50, **SMALL_BERT), tmp_path / "bert"
    encoder.bert.save_pretrained(folder)
    first = text.text_digest(str(folder))
    encoder.bert.save_pretrained(tmp_path / "copy")
    assert text.text_digest(str(tmp_path / "copy")) == first
    with torch.no_grad():
        encoder.bert.embeddings.word_embeddings.weight[3, 3] += 1
    encoder.bert.save_pretrained(folder)
    assert text.text_digest(str(folder)) != first
    train_tokenizer(["lungs clear"], 50).save_pretrained(folder)
    assert len({text.text_digest(str(folder)), text.text_digest(str(tmp_path / "copy")), ""}) == 3


def test_a_folder_with_code_of_its_own_runs_none(tmp_path, no_network, evil):
    TextEncoder(50, **SMALL_BERT).bert.save_pretrained(tmp_path, safe_serialization=False)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    torch.save({"embeddings.word_embeddings.weight": evil}, tmp_path / "pytorch_model.bin")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["code.Evil", null]}, "tokenizer_class": "Evil"}')
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    with pytest.raises(Exception, match=r".") as refused:
        TextEncoder(50, pretrained=str(tmp_path), max_length=12)
    assert not isinstance(refused.value, SystemExit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pretrained.pretrained_tokenizer(str(tmp_path))


def test_reachability_is_asked_with_a_time_limit(monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(pretrained, "urlopen", refuse)
    assert not pretrained.reachable("https://nowhere.invalid/")
    assert asked == [3.0]


def test_vector_hands_through_without_hidden_layer():
    x = torch.randn(3, 6)
    encoder = VectorEncoder(6, hidden=0)
    assert encoder.output_dim == 6
    torch.testing.assert_close(encoder(x), x)
    with pytest.raises(ValueError, match=r"vector: expected \(B, 6\), got \(3, 5\)"):
        encoder(x[:, :5])


def test_mean_pooling_reads_every_token_but_padding():
    encoder = TextEncoder(50, **SMALL_BERT, pooling="mean").eval()
    ids = torch.randint(5, 50, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    states = encoder.bert(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = torch.stack([states[0, :4].mean(dim=0), states[1].mean(dim=0)])
    torch.testing.assert_close(encoder({"input_ids": ids, "attention_mask": mask}), expected)
    torch.testing.assert_close(encoder({"input_ids": ids[:1, :4], "attention_mask": mask[:1, :4]}), expected[:1])


def test_a_transformer_knows_the_order_of_the_steps_and_reads_shorter_series():
    encoder = TransformerEncoder(5, 7, hidden=8, heads=2).eval()
    x = torch.randn(2, 7, 5)
    assert not torch.allclose(encoder(x.flip(1)), encoder(x), atol=1e-4)
    torch.testing.assert_close(encoder(x), encoder.features(x).values.mean(dim=1))
    assert encoder(x[:, :3]).shape == (2, 8)


def test_vision_transformer_b_16_is_the_known_one():
    encoder = ViTEncoder(224)
    assert sum(p.numel() for p in encoder.parameters()) == 86_567_656 - 769_000  # torchvision's, without its head of 1000 classes
    assert encoder.output_dim == 768


def test_pretrained_positions_are_interpolated_to_other_images(monkeypatch):
    state = ViTEncoder(224).network.state_dict()
    monkeypatch.setattr("cm2.networks.encoders.pretrained.imagenet_weights", lambda name: {**state, **HEAD})
    encoder = ViTEncoder(64, pretrained=True)
    assert torch.equal(encoder.network.conv_proj.weight, state["conv_proj.weight"])
    assert encoder.network.encoder.pos_embedding.shape == (1, 1 + 16, 768)
    assert encoder.eval()(torch.rand(1, 64, 64)).isfinite().all()


HEAD = {"heads.head.weight": torch.zeros(1000, 768), "heads.head.bias": torch.zeros(1000)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransformerEncoder(5, 7, hidden=8, heads=3), "hidden = 8 is not a multiple of heads = 3"),
        (lambda: TransformerEncoder(5, 7, hidden=8)(torch.zeros(2, 8, 5)), "8 steps for an encoder of 7"),
        (lambda: TransformerEncoder(5, 7, hidden=8)(torch.zeros(2, 7, 4)), r"series: expected \(B, T, 5\)"),
        (lambda: ViTEncoder(64, "large"), "unknown Vision Transformer 'large'"),
        (lambda: ViTEncoder(50), "50 pixels do not fall into patches; for b_16 prepare a multiple of 16"),
        (lambda: ViTEncoder(32, "small", pretrained=True), "no pretrained weights for the small"),
        (lambda: ViTEncoder(32, "small")(torch.zeros(2, 32, 40)), r"expected \(B, 32, 32\) or .*, got \(2, 32, 40\)"),
        (lambda: build_encoder(Modality("film", "image", (32, 40)), ATTENTIVE), r"'film': a Vision Transformer reads square images"),
        (lambda: SeriesEncoderConfig(kind="gru"), "encoder.series.kind: unknown value 'gru'"),
        (lambda: ImageEncoderConfig(kind="cnn"), "encoder.image.kind: unknown value 'cnn'"),
        (lambda: ImageEncoderConfig(vit="b16"), "did you mean 'b_16'"),
    ],
)
def test_attentive_encoders_that_cannot_be_built_or_read(call, message):
    with pytest.raises(ValueError, match=message):
        call()
