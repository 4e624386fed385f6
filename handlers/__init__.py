"""What can wake us: raw event in, response out."""

import gc

# Modules and AWS's service models are made once and stay. To look through them for garbage at
# every 700th object, as Python does by itself, takes a tenth of a cold start.
gc.set_threshold(200_000)
