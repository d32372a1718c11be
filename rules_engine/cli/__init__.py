"""The command line: the only place that renders. One module for each group of commands, loaded when the command is named.

Owns what people type and read. May import everything else of Camp, but only inside the function that does a command's work: what
stands at the top of these modules is loaded for `camp --help`, which must answer in less than 100 ms.

Data goes to stdout, everything else to stderr. A fault that has a way out is a `Trouble` (errors.py) with its exit code.
"""
