"""Measurements beside other libraries, one command a claim: see README.md."""
