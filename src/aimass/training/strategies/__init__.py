"""The strategies, one file each. A file's stem is the strategy's name."""
