"""The weights on this machine: which are listed, which are wanted, which are here, and the disk they take.

catalogue.py  which models the marketplace knows
cache.py      models by hash, whole or absent, within a disk budget
demand.py     which of them tasks ask for, fetched beforehand
room.py       how much of the disk may still be promised
"""
