"""The parameter server: one versioned vector that many workers pull from and push gradients to."""
