# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Where does training collapse? A policy small enough to be exact, with the real rewards and advantages."""
