# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One-shot assessment of skill across domains: frozen clip features, episodes, and heads that learn from a few trials.

The method is A-VBANet's (arXiv 2301.00812), written from what is published of it. docs/skill.md says what is as
published, what is not, and what was measured.
"""
