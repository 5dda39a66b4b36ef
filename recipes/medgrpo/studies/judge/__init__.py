# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge studied: how far it agrees with people, with itself, and with what must be true of edited references.

`ratings` reads ratings, pairs and references; `agreement` has the figures of raters
and of repetitions. `edits` and `probes` change references, and `expectations` says how often the judge's scores of them
are what they must be. `text` shows what came out.
"""
