"""The group of workers that add up their gradients, each with a replica of p."""
