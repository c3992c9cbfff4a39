"""Image encoders: grey images ``(B, H, W)``, and colour images ``(B, H, W, 3)`` or ``(B, 3, H, W)``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cm2.errors import InputError
from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.freezing import freeze
from cm2.networks.encoders.pretrained import load_imagenet

if TYPE_CHECKING:
    from torchvision.models import ResNet


class ResNetEncoder(Encoder):
    """Residual network of torchvision on grey or colour images (He, Zhang, Ren, Sun, CVPR 2016).

    Grey images are repeated over three channels, and all are normalised with ImageNet's statistics by the encoder. A training batch with a
    single image uses the running statistics of batch normalisation: the batch statistics of one image are poor, and with 32 pixels, where
    the last map is 1 x 1, they do not exist.

    Args:
        depth: 18, 34 (paper) or 50; or 10, one block for each width, for small images on a CPU.
        pretrained: initialise with ImageNet weights, which must be stored or reachable.
        trainable_blocks: how many of the last blocks are trained, with what follows them; -1: everything.
        allow_random_start: whether weights that are not there give way to a random start.

    Raises:
        ValueError: another depth, or pretrained weights for depth 10.
    """

    smallest = 32

    def __init__(self, depth: int = 34, pretrained: bool = False, trainable_blocks: int = -1, allow_random_start: bool = False) -> None:
        super().__init__()
        from torchvision.models import ResNet, get_model
        from torchvision.models.resnet import BasicBlock

        if depth not in (10, 18, 34, 50):
            raise InputError(f"image encoder: unknown depth {depth}; choose 10, 18, 34 or 50")
        if pretrained and depth == 10:
            raise InputError("image encoder: no pretrained weights for depth 10; use 18, 34 or 50, or a random start")
        self.network = ResNet(BasicBlock, [1, 1, 1, 1]) if depth == 10 else get_model(f"resnet{depth}", weights=None)
        if pretrained:
            load_imagenet(self.network, f"resnet{depth}", allow_random_start=allow_random_start)
        self.output_dim = self.feature_dim = self.network.fc.in_features
        self.network.fc = nn.Identity()
        self.network.forward = partial(_maps, self.network)  # called as a module, so that it can be compiled as one
        freeze(self.network, trainable_blocks, "encoder.image.trainable_blocks")
        self.standardise = Standardise()

    def features(self, x: Tensor) -> Features:
        """The last residual block's maps, ``(B, H, W)`` or ``(B, H, W, 3)`` in [0, 1] ``-> (B, H', W', output_dim)``.

        Raises:
            ValueError: other axes, or an image below 32 pixels.
        """
        if x.ndim not in (3, 4) or min((planes := channels_first(x)).shape[2:]) < self.smallest:
            sides = f"(B, H, W) or (B, H, W, 3) with H, W >= {self.smallest}"
            raise InputError(f"image: expected {sides}, got {tuple(x.shape)}; prepare grey or colour images of that size")
        x = self.standardise(planes)
        maps = self.network(x) if not self.training or x.shape[0] > 1 else self._with_running_statistics(x)
        return Features(maps.movedim(1, -1))

    def pool(self, features: Features) -> Tensor:
        """The mean over positions, ``(B, output_dim)``."""
        return self.network.fc(self.network.avgpool(features.values.movedim(-1, 1)).flatten(1))

    def compilable(self) -> tuple[nn.Module]:
        """All up to the maps."""
        return (self.network,)

    def _with_running_statistics(self, x: Tensor) -> Tensor:
        frozen = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        for norm in frozen:
            norm.eval()
        try:
            return self.network(x)
        finally:
            for norm in frozen:
                norm.train()


def _maps(n: ResNet, x: Tensor) -> Tensor:
    """A residual network of torchvision up to its last block."""
    x = n.maxpool(n.relu(n.bn1(n.conv1(x))))
    return n.layer4(n.layer3(n.layer2(n.layer1(x))))


class ViTEncoder(Encoder):
    """Vision Transformer of torchvision on grey or colour images (Dosovitskiy et al., ICLR 2021; paper, Table 10).

    Grey images become three channels as in ``ResNetEncoder``; the state of the class token is the embedding.

    Args:
        side: height and width of the images.
        size: ``"b_16"``: ViT-B/16, patches of 16 pixels, designed for images of 224; ``"small"``: 8 x 8 patches, four blocks of width
            64, for small images on a CPU.
        pretrained: initialise ``"b_16"`` with ImageNet weights, which must be stored or reachable; position embeddings are
            interpolated to images of other sizes than 224.
        trainable_blocks: how many of the last blocks are trained, with what follows them; -1: everything.
        allow_random_start: whether weights that are not there give way to a random start.

    Raises:
        ValueError: another size, images that are not a multiple of the patches, or pretrained weights for ``"small"``.
    """

    def __init__(
        self, side: int, size: str = "b_16", pretrained: bool = False, trainable_blocks: int = -1, allow_random_start: bool = False
    ) -> None:
        super().__init__()
        from torchvision.models import VisionTransformer
        from torchvision.models.vision_transformer import interpolate_embeddings

        if size not in ("b_16", "small"):
            raise InputError(f'image encoder: unknown Vision Transformer {size!r}; choose "b_16" or "small"')
        if side % (multiple := 16 if size == "b_16" else 8):
            raise InputError(
                f"image encoder: images of {side} pixels do not fall into patches; for {size} prepare a multiple of {multiple}"
            )
        if pretrained and size == "small":
            raise InputError('image encoder: no pretrained weights for the small Vision Transformer; use "b_16" or a random start')
        patch, layers, heads, hidden, width = (16, 12, 12, 768, 3072) if size == "b_16" else (side // 8, 4, 4, 64, 128)
        self.network = VisionTransformer(side, patch, layers, heads, hidden, width)
        if pretrained:
            load_imagenet(self.network, "vit_b_16", partial(interpolate_embeddings, side, patch), allow_random_start)
        self.network.heads = nn.Identity()
        freeze(self.network, trainable_blocks, "encoder.image.trainable_blocks")
        self.output_dim = self.feature_dim = hidden
        self.standardise = Standardise()

    def features(self, x: Tensor) -> Features:
        """Class token and patches after the last block, ``(B, side, side)`` in [0, 1] ``-> (B, 1 + patches, output_dim)``, in colour
        ``(B, side, side, 3)``.

        Raises:
            ValueError: images of another shape.
        """
        n = self.network
        side = n.image_size
        if x.ndim not in (3, 4) or (planes := channels_first(x)).shape[2:] != (side, side):
            expected = f"(B, {side}, {side}) or (B, {side}, {side}, 3)"
            raise InputError(f"image: expected {expected}, got {tuple(x.shape)}; build the encoder for the cohort")
        patches = n.conv_proj(self.standardise(planes)).flatten(2).mT
        return Features(n.encoder(torch.cat((n.class_token.expand(len(x), -1, -1), patches), dim=1)))

    def compilable(self) -> tuple[nn.Module]:
        """The blocks."""
        return (self.network.encoder,)

    def pool(self, features: Features) -> Tensor:
        """The class token, ``(B, output_dim)``."""
        return features.values[:, 0]


def channels_first(x: Tensor) -> Tensor:
    """Images as planes ``(B, C, H, W)``: of grey ``(B, H, W)`` one, of colour ``(B, H, W, 3)`` or ``(B, 3, H, W)`` three.

    Raises:
        ValueError: other axes.
    """
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim == 4 and x.shape[3] == 3:
        return x.movedim(3, 1)
    if x.ndim == 4 and x.shape[1] == 3:
        return x
    raise InputError(f"image: expected (B, H, W), (B, H, W, 3) or (B, 3, H, W), got {tuple(x.shape)}; prepare grey or colour images")


class Standardise(nn.Module):
    """Planes ``(B, 1, H, W)`` or ``(B, 3, H, W)`` as three channels with ImageNet's statistics, ``(B, 3, H, W)``."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
