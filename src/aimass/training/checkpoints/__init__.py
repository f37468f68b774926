"""What a run keeps: its checkpoints, and the thread that writes them."""
