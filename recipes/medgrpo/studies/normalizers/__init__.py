# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What each normaliser does to rewards, advantages and gradients, on recorded answers."""
