"""Answering requests: the gateway, the Scheduler Center and the Prediction Engines."""
