"""Interleaved: attention over time against its formula, the gate, who asks whom."""

import pytest
import torch

from cm2.batch import Modality
from cm2.config import InterleavedConfig
from cm2.methods.baselines.interleaved import GatedSeries, InterleavedBlock
from cm2.methods.baselines.time_attention import TimeAttention, TimeEmbedding
from tests.methods.baselines.cases import MIXED, NOTE, SERIES, build, make_batch

SIZES = InterleavedConfig(width=8, time=6, heads=2, layers=1, steps=10)


def test_attention_over_time_is_the_weighted_mean_of_the_observations():
    torch.manual_seed(0)
    time, attention = TimeEmbedding(6), TimeAttention(3, 8, 6, 2)
    x, lengths = torch.randn(4, 5, 3), [5, 3, 1, 4]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    given = attention(torch.where(mask[..., None], x, 1e3), mask, time, steps=10)
    frequency = torch.cat((time.linear.weight, time.periodic.weight)).flatten()
    phase = torch.cat((time.linear.bias, time.periodic.bias))

    def embed(t):
        angle = t[:, None] * frequency + phase
        return torch.cat((angle[:, :1], angle[:, 1:].sin()), dim=1)

    for row, length in enumerate(lengths):
        query, key = attention.query(embed(torch.linspace(0, 1, 10))), attention.key(embed(torch.linspace(0, 1, length)))
        heads = [(query[:, part] @ key[:, part].T / 3**0.5).softmax(dim=1) @ x[row, :length] for part in (slice(0, 3), slice(3, 6))]
        torch.testing.assert_close(given[row], attention.output(torch.cat(heads, dim=1)), rtol=1e-4, atol=1e-5)


def test_the_gate_mixes_what_is_attended_with_what_is_held():
    torch.manual_seed(0)
    series, time = GatedSeries(3, SIZES, dropout=0.0), TimeEmbedding(6)
    x, mask = torch.randn(4, 5, 3), torch.ones(4, 5, dtype=torch.bool)
    attended = series.attention(x, mask, time, 10)
    held = series.convolution(x).repeat_interleave(2, dim=1)  # two points of the grid for each step
    for bias, expected in ((-100.0, held), (100.0, attended)):
        series.gate[3].weight.data.zero_()
        series.gate[3].bias.data.fill_(bias)
        torch.testing.assert_close(series(x, mask, time), expected, rtol=1e-5, atol=1e-6)


def test_a_modality_asks_the_others_that_are_present():
    torch.manual_seed(0)
    block = InterleavedBlock(3, SIZES, dropout=0.0)
    z = [torch.randn(2, 4, 8) for _ in range(3)]
    present = torch.tensor([[True, True, True], [True, False, True]])
    before = block(z, present)
    after = block([z[0], z[1] + torch.randn(2, 4, 8), z[2]], present)
    for m in (0, 2):
        assert not torch.allclose(before[m][0], after[m][0])
        torch.testing.assert_close(before[m][1], after[m][1], rtol=0, atol=0)


def test_a_stay_with_one_modality_asks_nobody():
    torch.manual_seed(0)
    block = InterleavedBlock(2, SIZES, dropout=0.0)
    z = [torch.randn(1, 4, 8) for _ in range(2)]
    alone = block(z, torch.tensor([[True, False]]))[0]
    block.others[0].output.weight.data.zero_()
    block.others[0].output.bias.data.zero_()
    torch.testing.assert_close(block(z, torch.tensor([[True, True]]))[0], alone)


def test_the_order_of_steps_and_tokens_matters():
    batch = make_batch((SERIES, NOTE), stays=6, present=torch.ones(6, 2, dtype=torch.bool))
    method = build("interleaved", (SERIES, NOTE)).eval()
    before = method.predict(batch)
    batch.values["series"].copy_(batch.values["series"].flip(1))
    assert not torch.equal(method.predict(batch), before)


def test_padding_is_not_read():
    batch = make_batch((SERIES, NOTE), stays=6, present=torch.ones(6, 2, dtype=torch.bool))
    method = build("interleaved", (SERIES, NOTE)).eval()
    before = method.predict(batch)
    note = batch.values["note"]
    note["input_ids"][note["attention_mask"] == 0] = 49
    torch.testing.assert_close(method.predict(batch), before, rtol=1e-6, atol=1e-7)


def test_several_patches_are_weighed():
    modalities = (SERIES, Modality("image", "image", (64, 64)))
    method = build("interleaved", modalities)
    method.loss(make_batch(modalities, stays=6))["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set()


def test_its_paper_size():
    config = InterleavedConfig()
    assert (config.layers, config.width, config.time, config.heads, config.steps) == (3, 128, 64, 8, 48)


@pytest.mark.parametrize("name", ["width", "time"])
def test_a_width_that_heads_do_not_divide_is_refused(name):
    with pytest.raises(ValueError, match=f"interleaved: {name} = 9 is not a multiple of heads = 2; change one of them"):
        build("interleaved", MIXED[3], **{f"baseline__interleaved__{name}": 9})


@pytest.mark.parametrize("series", ["lstm", "transformer"])
def test_common_encoders_read_the_series_first(series):
    batch = make_batch((SERIES, NOTE), stays=6)
    method = build("interleaved", (SERIES, NOTE), baseline__encoders="common", encoder__series__kind=series)
    assert set(method.encoders) == {"series", "note"}
    method.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert set(build("interleaved", (SERIES, NOTE)).encoders) == {"note"}


def test_a_feature_is_interpolated_from_its_own_times():
    torch.manual_seed(0)
    time, attention = TimeEmbedding(6), TimeAttention(3, 8, 6, 2)
    x, mask = torch.randn(4, 5, 3), torch.ones(4, 5, dtype=torch.bool)
    observed = torch.rand(4, 5, 3) < 0.5
    observed[0, :, 1], observed[1] = False, True
    given = attention(torch.where(observed, x, 1e3), mask, time, 10, observed)
    torch.testing.assert_close(given[1], attention(x, mask, time, 10)[1], rtol=1e-4, atol=1e-5)
    query, key = (attention._split(part(time(torch.linspace(0, 1, n)))) for part, n in ((attention.query, 10), (attention.key, 5)))
    scores = query @ key.mT / 3**0.5  # (heads, 10, 5)
    weight = torch.where(observed[:, None, None], scores[None, ..., None], -torch.inf).softmax(3).nan_to_num()  # (n, heads, 10, 5, 3)
    expected = (weight * x[:, None, None]).sum(3).transpose(1, 2).flatten(2)
    torch.testing.assert_close(given, attention.output(expected), rtol=1e-4, atol=1e-5)


def test_attention_over_time_reads_measurements_alone():
    torch.manual_seed(0)
    # the third feature is the mask of the first; the second has none
    series, time = GatedSeries(3, SIZES, dropout=0.0, masks=(2, -1, -1)), TimeEmbedding(6)
    series.gate[3].weight.data.zero_()
    series.gate[3].bias.data.fill_(100.0)  # what is held in between is not read
    x = torch.cat([torch.randn(4, 5, 2), torch.rand(4, 5, 1).round()], 2)
    x[:, 0, 2] = 1
    other, mask = x.clone(), torch.ones(4, 5, dtype=torch.bool)
    other[..., 0] = torch.where(x[..., 2] == 1, x[..., 0], 7.0)
    torch.testing.assert_close(series(other, mask, time), series(x, mask, time), rtol=1e-5, atol=1e-6)
    other[:, 2, 1] += 1
    assert not torch.allclose(series(other, mask, time), series(x, mask, time))


def test_the_masks_of_a_cohort_are_used():
    masked = Modality("series", "series", (6, 4), masks=(2, 3, -1, -1))
    batch = make_batch((masked, NOTE), stays=6, present=torch.ones(6, 2, dtype=torch.bool))
    method = build("interleaved", (masked, NOTE)).eval()
    assert method.grids["series"].masks.tolist() == [2, 3, -1, -1]
    assert torch.isfinite(method.predict(batch)).all()
