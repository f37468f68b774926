"""Training: one loop, many strategies, and the handle that tells its story."""
