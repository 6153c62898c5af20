"""This machine: processes, locks, private folders, the fence around restored servers, memory.

Its cores are counted here, too.
"""
