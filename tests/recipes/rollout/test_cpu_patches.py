# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What is replaced in verl on a CPU answers as before."""

import torch


def test_log_probabilities_of_tokens_take_one_call_and_are_the_same(plugged, monkeypatch):
    from verl.utils.torch_functional import logprobs_from_logits

    draw = torch.Generator().manual_seed(0)
    logits = (8 * torch.randn(60, 30, generator=draw)).requires_grad_()
    labels = torch.randint(30, (60,), generator=draw)
    expected = torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0]
    weights = torch.randn(60, generator=draw)
    (slope,) = torch.autograd.grad(expected @ weights, logits)
    calls, logsumexp = [], torch.logsumexp
    monkeypatch.setattr(torch, "logsumexp", lambda *args, **kwargs: calls.append(1) or logsumexp(*args, **kwargs))
    found = logprobs_from_logits(logits, labels)
    assert len(calls) == 1
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found @ weights, logits)[0], slope)
    in_rows = logprobs_from_logits(logits.view(4, 15, 30), labels.view(4, 15))
    assert len(calls) == 5
    torch.testing.assert_close(in_rows.flatten(), expected)
