"""Results: what a drill found, where it is kept, how it is shown, and the forecast of the next."""
