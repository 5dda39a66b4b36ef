# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Lectures for tests: eSpeak NG speaks, from the library that a package carries, while coloured shots are shown."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

VIDEO_RATE = 5
RETRIEVAL = 2  # eSpeak NG hands the sound over and plays nothing


def speech(text: str, words_a_minute: int = 140) -> tuple[np.ndarray, int]:
    """Sound of a text, 16 bit, and its samples a second."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    heard = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def keep(samples, count, _events):
        if samples and count > 0:
            heard.extend(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(keep)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_SetParameter(1, words_a_minute, 0)
    said = text.encode()
    assert library.espeak_Synth(said, len(said) + 1, 0, 0, 0, 1, None, None) == 0
    library.espeak_Synchronize()
    return np.frombuffer(bytes(heard), np.int16), rate


def silence(seconds: float, rate: int) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.int16)


def write_lecture(place: Path, sound: np.ndarray | None, rate: int, shots: Sequence[float], seconds: float) -> None:
    """A video of so many seconds whose colour changes at the times of `shots`; a square moves in each of them."""
    colours = [(200, 40, 40), (40, 40, 220), (40, 200, 40), (220, 220, 40)]
    with av.open(str(place), "w") as container:
        picture = container.add_stream("libx264", rate=VIDEO_RATE)
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        voice = None if sound is None else container.add_stream("aac", rate=rate)
        for number in range(round(seconds * VIDEO_RATE)):
            image = np.full((120, 160, 3), colours[sum(number / VIDEO_RATE >= shot for shot in shots)], np.uint8)
            image[40:80, number % 120 : number % 120 + 20] = 255
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(picture.encode())
        if voice is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            container.mux(voice.encode(frame))
            container.mux(voice.encode())
