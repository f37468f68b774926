"""Workers in groups: their exchanges, and how an exchange is divided among them."""
