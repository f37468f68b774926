"""The vocabulary that every room shares: errors, events, settings, plugin lookup, whole-file writes, shared memory."""
