"""What one process sees of the shared block: its shards, a replica in it, and the words of rounds and of groups."""
