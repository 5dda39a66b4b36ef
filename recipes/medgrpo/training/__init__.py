# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What hangs on verl's trainer: the sampler, advantages, stops, checkpoints and the judge's watch."""
