"""What is kept: the database, the blobs, and the registry on top of them."""
