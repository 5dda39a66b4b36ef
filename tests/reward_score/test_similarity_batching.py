# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Similarity asked by many at once: what is gathered, who gets which error, what is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from reward_score.errors import EmbeddingUnavailable
from reward_score.similarity import Similarity, load_similarity
from reward_score.similarity.cosine import GATHER


class Gated:
    """An encoder that waits before it answers its first call; it remembers every call.

    The vector of text "n" is the angle of n degrees. "bad" makes a call fail, "nan" is a vector that is none, "down"
    an encoder that is not there.
    """

    def __init__(self):
        self.calls, self.entered, self.gate = [], threading.Event(), threading.Event()

    def __call__(self, texts):
        self.calls.append(list(texts))
        self.entered.set()
        assert self.gate.wait(20)
        if "bad" in texts:
            raise ValueError("bad text")
        if "down" in texts:
            raise EmbeddingUnavailable("nobody there")
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


async def ask(s, *texts):
    """A request with one pair of each text and its successor by 60 degrees."""
    return await s.cosines([(text, str(float(text) + 60) if text.isdecimal() else "0") for text in texts])


async def submitted(*requests):
    """Tasks whose requests have been handed in."""
    tasks = [asyncio.create_task(request) for request in requests]
    await asyncio.sleep(0)
    return tasks


async def first_under_way(s, encoder):
    (task,) = await submitted(ask(s, "1"))
    await asyncio.to_thread(encoder.entered.wait, 20)
    return task


def test_what_gathers_during_a_batch_is_the_next_batch():
    async def run():
        first = await first_under_way(s, encoder)
        others = await submitted(*(ask(s, str(n)) for n in range(2, 22)))
        encoder.gate.set()
        return await asyncio.gather(first, *others)

    encoder = Gated()
    s = Similarity(encoder)
    for cosines in asyncio.run(run()):
        assert cosines == pytest.approx([0.5])
    assert [len(call) for call in encoder.calls] == [2, 40]


def test_requests_of_several_event_loops_and_threads_share_a_batch():
    encoder = Gated()
    s = Similarity(encoder)
    results, ready = [], threading.Barrier(4)

    def in_a_loop(number):
        async def run():
            tasks = await submitted(*(ask(s, str(10 * number + n)) for n in range(5)))
            await asyncio.to_thread(ready.wait, 20)
            return await asyncio.gather(*tasks)

        results.extend(asyncio.run(run()))

    async def start():
        first = await first_under_way(s, encoder)
        threads = [threading.Thread(target=in_a_loop, args=(number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(ready.wait, 20)
        encoder.gate.set()
        await asyncio.gather(first, *(asyncio.to_thread(thread.join, 20) for thread in threads))

    asyncio.run(start())
    assert len(results) == 15 and all(cosines == pytest.approx([0.5]) for cosines in results)
    assert [len(call) for call in encoder.calls] == [2, 30]


def test_a_batch_has_a_limit_and_a_larger_request_goes_alone():
    async def run():
        first = await first_under_way(s, encoder)
        small = [ask(s, *(str(n) for n in range(start, start + 20))) for start in range(2, 122, 20)]
        large = ask(s, *(str(n) for n in range(200, 200 + 2 * GATHER)))
        tasks = await submitted(*small, large, ask(s, "1000"))
        encoder.gate.set()
        await asyncio.gather(first, *tasks)

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())
    assert max(map(len, encoder.calls[:-2])) <= GATHER < len(encoder.calls[-2])
    assert encoder.calls[-1] == ["1000", "1060.0"]


def test_one_text_that_many_ask_for_is_embedded_once():
    async def run():
        first = await first_under_way(s, encoder)
        others = await submitted(*(ask(s, "1", "7") for _ in range(9)))
        encoder.gate.set()
        await asyncio.gather(first, *others)

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())
    assert sorted(text for call in encoder.calls for text in call) == ["1", "61.0", "67.0", "7"]


@pytest.mark.parametrize("text", ["bad", "nan"])
def test_an_error_reaches_those_whose_text_it_is_about(text):
    async def run():
        first = await first_under_way(s, encoder)
        others = await submitted(ask(s, "5"), ask(s, text), ask(s, "6"), ask(s, "8", text))
        encoder.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    encoder = Gated()
    s = Similarity(encoder)
    first, five, bad, six, also_bad = asyncio.run(run())
    assert first + five + six == pytest.approx([0.5] * 3)
    assert isinstance(bad, EmbeddingUnavailable) and isinstance(also_bad, EmbeddingUnavailable) and bad is not also_bad


def test_an_encoder_that_is_not_there_is_asked_once_for_all_and_again_later():
    async def run():
        first = await first_under_way(s, encoder)
        others = await submitted(ask(s, "5"), ask(s, "down"), ask(s, "6"))
        encoder.gate.set()
        assert await first == pytest.approx([0.5])
        told = await asyncio.gather(*others, return_exceptions=True)
        assert [str(error) for error in told] == ["nobody there"] * 3
        assert len(encoder.calls) == 2
        assert await ask(s, "5") == pytest.approx([0.5])

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())


def test_who_gives_up_takes_nobody_along():
    async def run():
        first = await first_under_way(s, encoder)
        kept, dropped = await submitted(ask(s, "5"), ask(s, "6"))
        first.cancel()
        dropped.cancel()
        await asyncio.sleep(0)
        encoder.gate.set()
        assert await kept == pytest.approx([0.5])
        assert first.cancelled() and dropped.cancelled()

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())
    assert encoder.calls == [["1", "61.0"], ["5", "65.0"]]
    assert s.cosine_pairs([("1", "61.0"), ("6", "66.0")]) == pytest.approx([0.5, 0.5])


def test_an_event_loop_that_ends_early_harms_nobody():
    async def run():
        await first_under_way(s, encoder)

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())
    encoder.gate.set()
    assert s.cosine_pairs([("1", "61.0")]) == pytest.approx([0.5])
    assert len(encoder.calls) == 1


def test_cached_texts_do_not_wait_for_a_batch_under_way():
    async def run():
        encoder.gate.set()
        await ask(s, "5")
        encoder.gate.clear()
        encoder.entered.clear()
        first = await first_under_way(s, encoder)
        assert await ask(s, "5") == pytest.approx([0.5])
        assert not first.done()
        encoder.gate.set()
        await first

    encoder = Gated()
    s = Similarity(encoder)
    asyncio.run(run())


def test_no_thread_is_left():
    encoder = Gated()
    encoder.gate.set()
    Similarity(encoder).cosine_pairs([("1", "2")])
    left = [thread for thread in threading.enumerate() if thread.name == "embedding"]
    for thread in left:
        thread.join(20)
    assert not any(thread.is_alive() for thread in left)


def test_a_process_ends_by_itself_after_its_last_request():
    code = (
        "import asyncio\n"
        "from reward_score.similarity import load_similarity\n"
        "async def main():\n"
        "    s = await asyncio.to_thread(load_similarity, None, 'cpu')\n"
        "    asyncio.create_task(s.cosines([('given up', 'at once')]))\n"
        "    print(await s.cosines([('the duct is cut', 'the duct is cut'), ('cut', '')]))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1.0, 0.0]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_has_a_thread_of_its_own():
    encoder = Gated()
    s = Similarity(encoder)
    asked = threading.Thread(target=lambda: s.cosine_pairs([("1", "61")]))
    asked.start()
    assert encoder.entered.wait(20)
    child = os.fork()
    if not child:
        signal.alarm(20)
        encoder.gate = threading.Event()
        encoder.gate.set()
        os._exit(0 if s.cosine_pairs([("2", "62")]) == pytest.approx([0.5]) else 1)
    encoder.gate.set()
    asked.join(20)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_gathered_requests_get_the_numbers_they_get_one_by_one():
    texts = [f"The surgeon {verb} the {what}." for verb in ("cuts", "clips", "holds") for what in ("duct", "liver bed")]
    pairs = [(a, b) for a in texts for b in texts] + [("suture " * 400, texts[0])]
    encoder = load_similarity(None, "cpu").encoder

    async def together():
        s = Similarity(encoder)
        return [value for (value,) in await asyncio.gather(*(s.cosines([pair]) for pair in pairs))]

    one_by_one = [Similarity(encoder).cosine_pairs([pair])[0] for pair in pairs]
    assert asyncio.run(together()) == pytest.approx(one_by_one, abs=1e-6)
