"""A model that is divided among workers: how it is cut, and what each does with its part."""
