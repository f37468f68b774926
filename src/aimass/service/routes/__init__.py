"""The REST API, one file a resource. Each has a `router`; a new file is found by itself."""
