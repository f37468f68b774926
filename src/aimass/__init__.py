"""AI Mass: data in, a trained, versioned, served and metered model out."""
