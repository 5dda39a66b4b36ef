# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The reward of one answer: settings made ready, an answer measured, its signals put together.

reward = format x sum over the task's signals of weight x normalised signal; an answer that cannot be read gets
exactly 0.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum, isfinite
from typing import TYPE_CHECKING, Any

from .answers import Event
from .captions import CaptionPairs, judge_value
from .errors import BadGroundTruth, BadSetting, RewardError
from .normalization import Normalizer
from .settings import SETTING_NAMES, Settings, answer_map
from .statistics import Statistics
from .tasks import CAPTION_SIGNALS, TASKS, WASSERSTEIN, Context, Task, find_task, read_gold

if TYPE_CHECKING:
    from .similarity import Similarity

END_TOKENS = ("<|im_end|>", "<|endoftext|>")
"""One of these at the end of an answer is the tokenizer's, not the answer's."""
MARK = "mark_"
"""How the judge's dimensions are called in a result."""


class Scorer:
    """`Settings` made ready: statistics read and checked, weights worked out; judge and encoder come when needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        statistics = None if settings.statistics is None else Statistics.load(settings.statistics)
        name = answer_map(settings.normalizer)
        self.normalizer = Normalizer(
            statistics, name, float(settings.k), settings.min_iqr, settings.min_samples, settings.linear_share
        )
        rewarded = TASKS if settings.rewarded_tasks is None else set(settings.rewarded_tasks)
        self.rewarded = {name: name in rewarded for name in TASKS}
        self.signals = {
            name: _without(
                {signal: settings.weights.get(name, task.weights).get(signal, 0.0) for signal in task.weights},
                self._left_out(name),
            )
            for name, task in TASKS.items()
        }
        self._formats = {1.0: 1.0, 0.5: float(settings.deviation_format)}
        self._acc = {name: _without(task.acc, self._left_out(name)) for name, task in TASKS.items()}
        self._format_first = settings.format_order == "before"
        self.router_address: str | None = None
        self._judge: Any = None
        self._making = threading.Lock()
        self._similarity: Similarity | None = None

    def _left_out(self, task: str) -> set[str]:
        out = set() if self.settings.judge is not None else {"judge"}
        if not self.settings.tal_wasserstein:
            out.add(WASSERSTEIN)
        return out | set(CAPTION_SIGNALS) if task == "dvc" and not self.settings.dvc_captions else out

    @property
    def judge(self) -> Any:
        """The judge, made at first use; it may have to wait for its store. ValueError where the settings have none."""
        if self.settings.judge is None:
            raise ValueError("judge: these settings have none")
        with self._making:
            if self._judge is None:
                from .judge import make_judge

                self._judge = make_judge(self.settings.judge, self.settings.judge_settings, self.router_address)
        return self._judge

    def read(self, data_source: Any, answer: Any, ground_truth: Any, extra_info: Any) -> Sample:
        """Parse an answer and measure what needs no text comparison."""
        task, source = find_task(data_source)
        if not isinstance(ground_truth, str):
            raise BadGroundTruth(f"ground_truth: expected a JSON string, got {type(ground_truth).__name__}")
        gold = read_gold(task.name, ground_truth)
        answer = _plain(answer)
        parsed = task.parse(answer)
        judged = "judge" in self.signals[task.name]
        sample = Sample(data_source, task, self._formats.get(parsed.format, 0.0))
        value = parsed.value
        if judged and parsed.format > 0 and (attacks := _attacks(value, gold)):
            sample.attack = True
            if isinstance(value, str):
                sample.format *= self.settings.attack_format
                if self.settings.attack_format == 0:
                    return sample
            elif self.settings.attack_format < 1:
                # An event that describes nothing finds nothing: as wrong as one at another time, and no more.
                value = [replace(event, caption="") if event.caption in attacks else event for event in value]
        if parsed.format > 0:
            extra = extra_info if isinstance(extra_info, Mapping) else {}
            context = Context(source, extra, self.signals[task.name])
            sample.raw = task.measure(value, gold, context)
            if any(signal in CAPTION_SIGNALS for signal in self.signals[task.name]):
                sample.pairs = task.pairs(value, gold, context)
                if judged and isinstance(extra_info, Mapping):
                    sample.question = extra_info.get("question")
                    sample.still = extra_info.get("frames") == 1
        return sample

    @property
    def similarity(self) -> Similarity:
        """The similarity of text pairs; slow on the first call, which loads the model."""
        if self._similarity is None:
            from .similarity import load_similarity

            self._similarity = load_similarity(self.settings.encoder, self.settings.encoder_device)
        return self._similarity

    async def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Similarity of text pairs, embedded together with those of other answers that are scored at the time."""
        if self._similarity is None:
            await asyncio.to_thread(lambda: self.similarity)
        return await self.similarity.cosines(pairs)

    async def compare(self, sample: Sample) -> None:
        """Measure what texts say, where there are texts to compare; encoder and judge work at the same time."""
        if not sample.pairs.pairs:
            return
        similarity = self.cosines(sample.pairs.pairs)
        if "judge" not in self.signals[sample.task.name]:
            sample.raw["similarity"] = sample.pairs.mean(await similarity)
            return
        cosines, judged = await asyncio.gather(similarity, self.judged(sample))
        sample.raw["similarity"], sample.raw["judge"] = sample.pairs.mean(cosines), sample.pairs.mean(judged)

    async def judged(self, sample: Sample) -> list[float]:
        """Judge values of a sample's pairs, 0 where the judge refused or could not make sense of the answer."""
        if self._judge is None:
            await asyncio.to_thread(lambda: self.judge)
        return list(await asyncio.gather(*(self._judge_pair(sample, a, b) for a, b in sample.pairs.pairs)))

    async def _judge_pair(self, sample: Sample, prediction: str, reference: str) -> float:
        from .judge import JudgeError

        try:
            judgement = await self.judge.score(
                prediction, reference, task="image" if sample.still else sample.task.name, question=sample.question
            )
        except JudgeError as error:
            if not error.answer_caused:
                raise
            sample.unjudged += 1
            return 0.0
        sample.marks.append(judgement.scores())
        return judge_value(judgement.mean)

    async def close(self) -> None:
        """Close the judge's connections, which belong to the running event loop."""
        if self._judge is not None:
            await self._judge.aclose()

    def reward(
        self,
        data_source: str,
        form: float,
        raw: Mapping[str, float],
        normalizer: Callable[[str, str, float], float] | None = None,
    ) -> float:
        """The reward, 0 to 1, of an answer whose format and raw signals are known.

        form x sum(weight x normalised signal), or with the format order ``before`` sum(weight x normalised (form x
        signal)); exactly 0 where ``form`` is 0 or the task is not rewarded.

        Args:
            data_source: ``medvidbench/<source>/<task>``.
            form: the format factor, 0 to 1.
            raw: value by signal, without the ``raw_``; other signals than these settings use are left aside.
            normalizer: (data_source, signal, raw value) to the normalised value; None for the settings' own.

        Raises:
            RewardError: a signal that is missing or not finite, no statistics for it, or an unknown task.
        """
        weights = self.signals[find_task(data_source)[0].name]
        values = self.normalised(data_source, form, raw, normalizer)
        return (1.0 if self._format_first else form) * sum(weights[signal] * value for signal, value in values.items())

    def normalised(
        self,
        data_source: str,
        form: float,
        raw: Mapping[str, float],
        normalizer: Callable[[str, str, float], float] | None = None,
    ) -> dict[str, float]:
        """What the reward is put together from: the normalised value by signal.

        Empty where the reward is 0 whatever the signals are. Arguments and errors as in `reward`.
        """
        name = find_task(data_source)[0].name
        weights = self.signals[name]
        for signal in weights:
            value = raw.get(signal)
            if value is None or not isfinite(value):
                raise RewardError(f"{data_source}: signal {signal} is {value!r}: expected a finite number")
        if not form > 0 or not self.rewarded[name]:
            return {}
        factor = form if self._format_first else 1.0
        normalize = self.normalizer if normalizer is None else normalizer
        return {signal: normalize(data_source, signal, factor * raw[signal]) for signal in weights}

    def summands(
        self,
        data_source: str,
        form: float,
        raw: Mapping[str, float],
        normalizer: Callable[[str, str, float], float] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """What the reward is the sum of: by signal (form x normalised signal, its weight), and (form, 0) as `format`.

        Arguments and errors as in `reward`.
        """
        values = self.normalised(data_source, form, raw, normalizer)
        factor = 1.0 if self._format_first else form
        weights = self.signals[find_task(data_source)[0].name]
        parts = {signal: (factor * values.get(signal, 0.0), weight) for signal, weight in weights.items()}
        return parts | {"format": (float(form), 0.0)}

    def finish(self, sample: Sample) -> dict[str, float]:
        """The result of a sample whose signals are complete."""
        name = sample.task.name
        raw = {signal: float(sample.raw.get(signal, 0.0)) for signal in self.signals[name]}
        score = self.reward(sample.data_source, sample.format, raw)
        acc = sum(weight * raw[signal] for signal, weight in self._acc[name].items())
        result = {"score": score, "acc": acc, "format": sample.format} | {f"raw_{key}": raw[key] for key in raw}
        if sample.marks:
            many = len(sample.marks)
            result |= {MARK + name: fsum(one[name] for one in sample.marks) / many for name in sample.marks[0]}
        if sample.unjudged:
            result["unjudged"] = sample.unjudged / len(sample.pairs.pairs)
        return result | {"attack": float(sample.attack)} if "judge" in raw else result


@dataclass
class Sample:
    """An answer on its way to a score.

    Attributes:
        attack: whether it addresses the judge instead of describing; asked only where there is a judge.
        still: whether what it describes is one picture.
        unjudged: on how many of its captions the judge gave no verdict because of the text.
        marks: what the judge gave each of its other captions, by dimension.
    """

    data_source: str
    task: Task
    format: float
    raw: dict[str, float] = field(default_factory=dict)
    pairs: CaptionPairs = CaptionPairs((), 0)
    question: str | None = None
    attack: bool = False
    still: bool = False
    unjudged: int = 0
    marks: list[dict[str, float]] = field(default_factory=list)


def _attacks(said: str | Sequence[Event], gold: str | Sequence[Event]) -> set[str]:
    """The captions of an answer that talk to the judge, in a way that the reference does not.

    What cannot be seen is taken off by now, and has cost the format. What looks like an attack in the reference as
    well is how this clip is described.
    """
    from .judge.bribery import find_attack  # the rule tasks never load the judge's room

    def texts(side: str | Sequence[Event]) -> list[str]:
        return [side] if isinstance(side, str) else [event.caption for event in side]

    reasons = {text: reason for text in texts(said) if (reason := find_attack(text))}
    usual = {find_attack(text) for text in texts(gold)} if reasons else set()
    return {text for text, reason in reasons.items() if reason not in usual}


def _without(weights: Mapping[str, float], left_out: set[str]) -> dict[str, float]:
    """Weights without some signals, scaled to sum to 1."""
    kept = {signal: weight for signal, weight in weights.items() if signal not in left_out}
    total = sum(kept.values())
    if not total:
        raise BadSetting(f"weights: {dict(weights)}: nothing is left without {', '.join(sorted(left_out))}")
    return {signal: weight / total for signal, weight in kept.items()}


def _plain(answer: Any) -> Any:
    """The answer without one end token at its end; what is not text stays what it is, and is no answer.

    Half a surrogate pair, which no encoder or judge can be sent, becomes the replacement character.
    """
    if isinstance(answer, str) and not answer.isascii():
        answer = answer.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(answer, str) and answer.rstrip().endswith(END_TOKENS):
        answer = answer.rstrip()
        for token in END_TOKENS:
            if answer.endswith(token):
                return answer[: -len(token)]
    return answer


_scorers: dict[Any, tuple[Scorer, tuple[Any, ...]]] = {}
_KEPT_SCORERS = 64


def _plain_setting(value: Any) -> Any:
    """A setting without the mapping and list types of a configuration library, mappings in the order of their keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain_setting(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_plain_setting, value))
    return value


def get_scorer(**settings: Any) -> Scorer:
    """The scorer of these settings, made once per process.

    A statistics file is read when its path is first seen: write a new file under a new name.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: a setting with a bad value. BadStatistics: a bad statistics file.
    """
    # verl hands in the very same objects with every call: recognising them costs less than looking into them. The
    # entry keeps them alive, so that an id cannot come to mean another object.
    identity = tuple((name, id(value)) for name, value in settings.items())
    if identity in _scorers:
        return _scorers[identity][0]
    unknown = sorted(set(settings) - SETTING_NAMES)
    if unknown:
        raise TypeError(
            f"compute_score: unknown setting {', '.join(unknown)}: expected {', '.join(sorted(SETTING_NAMES))}"
        )
    plain = _plain_setting(settings)
    content = repr(plain)
    scorer = _scorers[content][0] if content in _scorers else Scorer(Settings(**plain))
    if len(_scorers) >= _KEPT_SCORERS:
        _scorers.clear()
    _scorers[content] = scorer, ()
    _scorers[identity] = scorer, tuple(settings.values())
    return scorer
