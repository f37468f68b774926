"""The same model, data and seed under several strategies, one beside the other."""
