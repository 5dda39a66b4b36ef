# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge studied: how far it agrees with people, with itself, and with what must be true of edited references.

`inputs` reads ratings, pairs and references; `asking` has them judged once each; `agreement` and `repeatability`
are the figures; `wording` and `probes` edit references; `tables` writes what came out.
"""
