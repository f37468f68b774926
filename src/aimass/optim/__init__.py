"""Optimizers that work on flat vectors in place, and what stands around them: schedules, clipping, weight decay."""
