"""Ports that anybody may dial: how many come in, how fast, how large, how slow."""
