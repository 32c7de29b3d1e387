"""unit/ mirrors the package; integration/ runs real daemons in network namespaces and needs root."""

from hypothesis import settings

# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("vifibnet", deadline=None)
settings.load_profile("vifibnet")
