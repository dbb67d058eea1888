"""The drills that apply to any program which evolves a program by evaluating it, tried on ralph and on its rivals.

`python -m drills.rivals`; see `drills.rivals.__main__`. Each contestant is used as its own documentation shows, by its
own command line, in a temporary folder. Its language model is a server of ours on the loopback that hands out scripted
candidates one by one; ralph's scripted agent does the same. What happened is read from outside: from the process table,
from files, from what the contestant recorded.
"""
