"""Where processes live: starting them, watching them, stopping them."""
