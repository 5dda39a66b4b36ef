# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where a video's picture changes to another shot, by PySceneDetect (the extra `speech`)."""

from __future__ import annotations

from pathlib import Path


class ShotError(RuntimeError):
    """Shots cannot be told: the package is missing, or the file cannot be decoded. The message is one line."""


def shots_of(file: Path) -> list[float]:
    """Seconds from the first frame at which a new shot begins, rising; the first shot is not among them.

    A frame begins a shot where it differs from its neighbours by much more than they do from each other, so that a
    moving endoscope is no cut. A sound file has no shots, and neither has one whose only picture is its cover.

    Raises:
        ShotError: PySceneDetect is missing, or the file cannot be decoded.
    """
    import av

    try:
        with av.open(str(file)) as container:
            if not any(not one.disposition & one.disposition.attached_pic for one in container.streams.video):
                return []
    except (av.FFmpegError, OSError) as error:
        raise ShotError(f"{file}: expected a video or a sound file, found {_line(error)}") from None
    try:
        from scenedetect import AdaptiveDetector, SceneManager, VideoOpenFailure
        from scenedetect.backends.pyav import VideoStreamAv
    except ImportError as error:
        raise ShotError(f"scenedetect cannot be imported ({error}): install the extra 'speech'") from None
    manager = SceneManager()
    manager.add_detector(AdaptiveDetector())
    try:
        manager.detect_scenes(VideoStreamAv(str(file)))
    except (VideoOpenFailure, av.FFmpegError, OSError) as error:
        raise ShotError(f"{file}: expected a video, found {_line(error)}") from None
    return [begin.seconds for begin, _ in manager.get_scene_list()][1:]


def _line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()) or type(error).__name__
