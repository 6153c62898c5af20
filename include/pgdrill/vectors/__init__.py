"""Vector columns: finding them, reading them once, their exact neighbours, and what their indexes
find.
"""
