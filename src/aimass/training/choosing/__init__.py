"""What a run decides by what it finds: the settings that a person left to it."""
