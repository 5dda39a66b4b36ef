# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Follow runs at work in a browser: the page of `report`, which shows new steps as they come.

    python -m recipes.medgrpo watch outputs/NAME
    python -m recipes.medgrpo watch outputs/A outputs/B --port 8700

Prints the address to open. The page is served on this machine only (127.0.0.1); from elsewhere, forward the port
(`ssh -L 8700:127.0.0.1:8700 HOST`). The runs' files are read and never written. Ctrl-C ends it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from pathlib import Path

from recipes.medgrpo.files import InputError
from recipes.medgrpo.report import add_arguments
from recipes.medgrpo.terminal import Parser, command, real, whole

PORT = 8700


@command("watch")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("watch", __doc__)
    add_arguments(parser)
    parser.add_argument("--port", type=whole(0, 65535), default=PORT, help="port to listen on; 0 takes a free one")
    parser.add_argument("--every", type=real(0.1), default=2.0, metavar="SECONDS", help="time between two looks")
    args = parser.parse_args(argv)
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    import uvicorn

    from recipes.medgrpo.reporting.page import write_page
    from recipes.medgrpo.reporting.serve import HOST, make_app
    from recipes.medgrpo.reporting.write import Report

    report = Report(
        args.runs, live=True, data=args.data, rows_per_pair=args.rows_per_pair, most=args.answers, patient=True
    )
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, args.port))
        listening.listen()
    except OSError as error:
        raise InputError(f"--port {args.port}: {error.strerror}; expected a free port, 0 takes one") from error
    with listening, tempfile.TemporaryDirectory() as page:
        write_page(Path(page), single=None, live=True)
        print(f"http://{HOST}:{listening.getsockname()[1]}/", flush=True)
        config = uvicorn.Config(
            make_app(report, Path(page), args.every), log_level="warning", timeout_graceful_shutdown=1
        )
        # Its usual end: uvicorn hands the signal on after it has stopped, or not, as its version has it.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
