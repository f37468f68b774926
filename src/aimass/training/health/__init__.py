"""How a run watches over itself: divergence, stalls, the fit, samples of its processes, and word of it to the outside."""
