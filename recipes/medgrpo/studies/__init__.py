# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Studies of what the method does: ablation, normalisers, judges, pictures."""
