"""Loops beside the requests. The server runs them, and so does `./run work`; any number of processes may."""
