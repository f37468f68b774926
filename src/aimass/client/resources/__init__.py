"""What a client offers: one file a noun, each method described once for both clients."""
