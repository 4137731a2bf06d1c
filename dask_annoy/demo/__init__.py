"""The input of `dask annoy demo`: texts that every machine has, their vectors, and questions to ask."""
