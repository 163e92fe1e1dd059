"""CrystFEL's `indexamajig`: what is installed, how to call it, and how to read what it says.

`indexer` starts it for each evaluation, `persistent` keeps one running (`server`); `indexamajig`
finds the program, `options` speaks its version's command line, `supervision` bounds the processes
and `stream` reads the result.
"""
