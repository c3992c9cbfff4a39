"""Networks of torchvision, timm and transformers by name: weights, frozen blocks, and what a run's key says of them."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cm2.batch import Modality
from cm2.environment.extras import MissingExtraError
from cm2.errors import InputError
from cm2.networks.embedding import averages_of_a_pass
from cm2.networks.encoders import ENCODERS, ResNetEncoder, TextEncoder, named_encoder, own_starts_from
from cm2.networks.encoders.freezing import blocks, freeze

FILM, PHOTO = Modality("film", "image", (32, 32)), Modality("photo", "image", (32, 32, 3))
BERT = {"hidden": 16, "layers": 3, "heads": 2, "intermediate": 16, "max_length": 8}


def weights_of(model, path):
    from torchvision.models import get_model

    torch.manual_seed(3)
    state = get_model(model, weights=None).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return str(path)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    for module in ("pretrained", "libraries"):
        monkeypatch.setattr(f"cm2.networks.encoders.{module}.reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.mark.parametrize("modality", [FILM, PHOTO])
def test_a_network_of_torchvision_starts_from_a_file_and_keeps_what_is_frozen(modality, tmp_path):
    own = {"part": "torchvision", "model": "resnet18", "weights": weights_of("resnet18", tmp_path / "w.safetensors"), "trainable_blocks": 2}
    encoder = named_encoder(modality, own)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train()
    encoder(torch.rand(4, *modality.shape)).square().sum().backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad.sign())
    changed = {
        name.removeprefix("network.").split(".")[0] for name, tensor in encoder.state_dict().items() if not tensor.equal(before[name])
    }
    assert changed == {"layer4"} and encoder.output_dim == 512
    with averages_of_a_pass(encoder):
        encoder(torch.rand(4, *modality.shape))
    assert torch.equal(encoder.network.bn1.running_mean, before["network.bn1.running_mean"])


def test_blocks_are_found_in_order():
    from torchvision.models import get_model

    found = [len(blocks(get_model(name, weights=None))) for name in ("resnet18", "resnet50", "vit_b_16", "convnext_tiny")]
    assert found == [8, 16, 12, 18] and len(blocks(TextEncoder(20, **BERT).bert)) == 3
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"here: expected -1 \(all\) or 0 to 0, the blocks of this network, got 1"):
        freeze(network, 1, "here")


@pytest.mark.parametrize(("trainable", "trained"), [(0, set()), (1, {"2"}), (3, {"0", "1", "2"})])
def test_the_last_blocks_of_a_text_encoder(trainable, trained):
    encoder = TextEncoder(20, **BERT, trainable_blocks=trainable)
    names = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert {name.split("layer.")[1][0] for name in names} == trained and not any("embeddings" in name for name in names)
    assert encoder.train().bert.embeddings.training is False


def test_what_was_loaded_is_part_of_the_key(tmp_path):
    path = weights_of("resnet18", tmp_path / "w.safetensors")
    first = own_starts_from({"part": "torchvision", "model": "resnet18", "weights": path})
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert first != own_starts_from({"part": "torchvision", "weights": str(tmp_path / "other.safetensors")}) != ""
    assert own_starts_from({"part": "torchvision", "weights": ""}) == ""
    assert own_starts_from({"part": "torchvision", "weights": str(tmp_path / "none.pth"), "allow_random_start": True}) == "random"


@pytest.mark.parametrize(
    ("own", "match"),
    [
        ({"weights": "nowhere.pth"}, r"there is no file of weights nowhere\.pth; give another, .*allow_random_start = true"),
        ({"model": "resnet18"}, r"ImageNet weights of resnet18: not on this machine.*allow_random_start = true"),
        ({"model": "resnet81", "weights": ""}, r"encoder\.film\.model: unknown model of torchvision 'resnet81'; .*did you mean"),
        ({"model": "resnet18", "weights": "", "trainable_blocks": 9}, r"encoder\.film\.trainable_blocks: expected -1 \(all\) or 0 to 8"),
        ({"model": "resnet18", "weight": ""}, r"encoder\.film: torchvision has no option 'weight'; it has .*did you mean 'weights'"),
    ],
)
def test_weights_that_are_not_there_are_an_error(own, match):
    with pytest.raises(InputError, match=match):
        named_encoder(FILM, {"part": "torchvision", **own})
    if "weights" not in own and "weight" not in own:
        assert isinstance(named_encoder(FILM, {"part": "torchvision", **own, "allow_random_start": True}), ENCODERS["torchvision"])


def test_damaged_weights_and_those_of_another_network_are_refused(tmp_path, evil):
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    torch.save(evil, tmp_path / "evil.pth")
    (tmp_path / "half.safetensors").write_bytes(b"\x08")
    for name, match in (
        ("other.safetensors", "do not fit the network"),
        ("evil.pth", "not a file of weights"),
        ("half.safetensors", "damaged"),
    ):
        with pytest.raises(InputError, match=match):
            named_encoder(FILM, {"part": "torchvision", "model": "resnet18", "weights": str(tmp_path / name)})


def test_an_image_model_of_transformers_from_a_folder(tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8)
    torch.manual_seed(5)
    stored = ViTModel(config)
    stored.save_pretrained(tmp_path / "vit")
    own = {"part": "transformers", "model": str(tmp_path / "vit"), "trainable_blocks": 1}
    encoder = named_encoder(PHOTO, own)
    assert encoder.output_dim == 16
    weight = "embeddings.patch_embeddings.projection.weight"
    assert torch.equal(encoder.network.state_dict()[weight], stored.state_dict()[weight]) and len(own_starts_from(own)) == 64
    with pytest.raises(InputError, match="me/nowhere: not on this machine, and the hub cannot be reached"):
        named_encoder(PHOTO, {"part": "transformers", "model": "me/nowhere"})


@pytest.mark.parametrize("modality", [FILM, PHOTO])
def test_a_network_of_timm_starts_from_a_file(modality, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    stored = timm.create_model("test_resnet", pretrained=False, num_classes=0).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, tmp_path / "w.safetensors")
    own = {"part": "timm", "model": "test_resnet", "weights": str(tmp_path / "w.safetensors"), "trainable_blocks": 1}
    encoder = named_encoder(modality, own)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.network.state_dict().items())
    assert encoder(torch.rand(2, *modality.shape)).shape == (2, encoder.output_dim)
    assert 0 < sum(p.requires_grad for p in encoder.parameters()) < len(list(encoder.parameters()))
    assert own_starts_from(own) != own_starts_from(own | {"weights": ""})
    with pytest.raises(InputError, match=r"unknown model of timm 'resnet1'; timm has \d{4}"):
        named_encoder(modality, {"part": "timm", "model": "resnet1"})


def test_timm_is_asked_where_it_is_installed(monkeypatch):
    with pytest.raises(MissingExtraError, match=re.escape("this needs the library timm, which is not installed") + r".*\[timm\]"):
        monkeypatch.setitem(sys.modules, "timm", None)
        named_encoder(FILM, {"part": "timm"})
    asked = []

    def create_model(name, pretrained, num_classes):
        asked.append((name, pretrained, num_classes))
        torch.manual_seed(int(pretrained))
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    stand_in = ModuleType("timm")
    stand_in.__spec__ = type("Spec", (), {"name": "timm"})()
    stand_in.create_model, stand_in.is_model, stand_in.list_models = create_model, lambda name: name == "tiny", lambda: ["tiny"]
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    encoder = named_encoder(FILM, {"part": "timm", "model": "tiny", "trainable_blocks": 0})
    assert encoder.output_dim == 4 and asked == [("tiny", False, 0), ("tiny", True, 0)]
    assert torch.equal(encoder.network[0].weight, create_model("tiny", True, 0)[0].weight)
    assert not any(p.requires_grad for p in encoder.parameters()) and len(own_starts_from({"part": "timm", "model": "tiny"})) == 64
    with pytest.raises(InputError, match="unknown model of timm 'large'; timm has 1"):
        named_encoder(FILM, {"part": "timm", "model": "large"})


def test_a_random_start_of_the_configured_encoders_has_to_be_allowed(tmp_path):
    with pytest.raises(InputError, match="ImageNet weights of resnet18"):
        ResNetEncoder(18, pretrained=True)
    assert ResNetEncoder(18, pretrained=True, allow_random_start=True).output_dim == 512
