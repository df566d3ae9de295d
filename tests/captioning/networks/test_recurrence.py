import torch
from torch import nn

from seesay.captioning.networks.attention import lstm_cell, unroll


def test_the_gates_make_the_states_of_torchs_lstm_cell():
    torch.manual_seed(0)
    reference = nn.LSTMCell(4, 3)
    inputs, hidden, cell = torch.randn(5, 4), torch.randn(5, 3), torch.randn(5, 3)
    gates = nn.functional.linear(inputs, reference.weight_ih, reference.bias_ih)
    gates = gates + nn.functional.linear(hidden, reference.weight_hh, reference.bias_hh)
    take_in, keep, candidate, put_out = gates.chunk(4, dim=1)  # torch's order
    found = lstm_cell(torch.cat((take_in, keep, put_out, candidate), dim=1), cell)
    for ours, theirs in zip(found, reference(inputs, (hidden, cell)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_cell_state_stays_float32_where_gates_are_bfloat16():
    hidden, cell = lstm_cell(torch.randn(2, 12).bfloat16(), torch.randn(2, 3))
    assert (hidden.dtype, cell.dtype) == (torch.bfloat16, torch.float32)


def test_a_caption_is_unrolled_word_by_word_in_its_order():
    def add_up(gates, state, memory):
        total = state[0] + gates
        return total, memory[0] * gates, (total,)

    outputs, weights = unroll(
        add_up, torch.tensor([[[1.0], [10.0], [100.0]]]), (torch.zeros(1, 1, 1),), (torch.tensor([2.0]),)
    )
    assert outputs.flatten().tolist() == [1.0, 11.0, 111.0]
    assert weights.flatten().tolist() == [2.0, 20.0, 200.0]
