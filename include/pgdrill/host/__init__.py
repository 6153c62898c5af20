"""This machine: processes, locks, private folders, the fence around restored servers, cores and
memory.
"""
