"""Every compared method on the encoders of Table 10, some modalities absent."""

import pytest

from cm2.methods.baselines import BASELINES
from tests.methods.baselines.cases import IMAGE, NOTE, SERIES, build, changed, make_batch

MODALITIES = (SERIES, IMAGE, NOTE)


@pytest.mark.parametrize("variant", ["original", "released"])
@pytest.mark.parametrize("name", [name for name, method in BASELINES.items() if not hasattr(method, "fit_stays")])
def test_transformer_and_vision_transformer(name, variant):
    method = build(name, MODALITIES, variant, encoder__series__kind="transformer", encoder__image__kind="vit")
    batch = make_batch(MODALITIES, stays=14)
    method.loss(batch)["loss"].backward()
    without = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {n for n in without if not n.startswith(tuple(method.unused_parameters))}
    method.eval()
    before = method.predict(batch)
    assert before.isfinite().all()
    assert (method.predict(changed(batch, batch.modalities, "absent")) == before).all()
