"""Networks over an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cm2.encoders.features import Features
from cm2.encoders.pretrained import imagenet_weights


class ResNetEncoder(nn.Module):
    """Residual network of torchvision on grey images (He, Zhang, Ren, Sun, CVPR 2016).

    Images are repeated over three channels and normalised with ImageNet's statistics inside. A training batch with a single
    image uses the running statistics of batch normalisation: one image has no batch statistics worth the name, and with 32
    pixels, where the last map is 1 x 1, it has none at all.

    Args:
        depth: 18, 34 (paper) or 50.
        pretrained: start from ImageNet weights; where they can neither be found nor reached, one warning and a random start.

    Raises:
        ValueError: another depth.
    """

    smallest = 32

    def __init__(self, depth: int = 34, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import get_model

        if depth not in (18, 34, 50):
            raise ValueError(f"image encoder: unknown depth {depth}; choose 18, 34 or 50")
        self.network = get_model(f"resnet{depth}", weights=None)
        if pretrained and (state := imagenet_weights(f"resnet{depth}")) is not None:
            self.network.load_state_dict(state)
        self.output_dim = self.feature_dim = self.network.fc.in_features
        self.network.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W)`` in [0, 1] ``-> (B, output_dim)``. Raises ValueError for other axes or an image below 32 pixels."""
        return self.pool(self.features(x))

    def features(self, x: Tensor) -> Features:
        """The last residual block's maps, ``(B, H', W', output_dim)``."""
        if x.ndim != 3 or min(x.shape[1:]) < self.smallest:
            raise ValueError(f"image: expected (B, H, W) with H, W >= {self.smallest}, got {tuple(x.shape)}; prepare grey, larger images")
        x = (x.unsqueeze(1) - self.mean) / self.std
        maps = self._maps(x) if not self.training or x.shape[0] > 1 else self._with_running_statistics(x)
        return Features(maps.movedim(1, -1))

    def pool(self, features: Features) -> Tensor:
        """Their mean, ``(B, output_dim)``."""
        return self.network.fc(self.network.avgpool(features.values.movedim(-1, 1)).flatten(1))

    def _maps(self, x: Tensor) -> Tensor:
        n = self.network
        x = n.maxpool(n.relu(n.bn1(n.conv1(x))))
        return n.layer4(n.layer3(n.layer2(n.layer1(x))))

    def _with_running_statistics(self, x: Tensor) -> Tensor:
        frozen = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        for norm in frozen:
            norm.eval()
        try:
            return self._maps(x)
        finally:
            for norm in frozen:
                norm.train()
