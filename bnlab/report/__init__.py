"""Reports, made of the records of claims and of recorded Runs: the page, tables, the last lines of the terminal.

Nothing here knows pytest or how Runs come to be. `records` is what is known, `numbers` what the figures show, `entries`
how a claim is shown, `drawing` and `templates/` how it looks, `tables` the data products, `page` writes all of it.
"""
