"""The results of drills: what was found, where it is kept, how it is shown.

The forecast of the next recovery is made from them, too.
"""
