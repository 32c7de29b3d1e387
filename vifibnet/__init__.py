"""vifibnet: a resilient virtual private network over the internet."""

__version__ = "0.1.0"
