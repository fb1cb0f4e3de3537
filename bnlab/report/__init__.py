"""Reports, made of the records of claims: tables and the last lines of the terminal.

Nothing here knows pytest, the store or how Runs come to be: what it needs of them stands in the
records.
"""
