"""Vector columns: finding them, reading them once, exact neighbours, and what indexes find."""
