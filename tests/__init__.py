"""unit/ mirrors the package; programs/ runs programs side by side, for which a busy machine is no harm;
integration/ runs real daemons in network namespaces, alone, for time matters there. Both need root."""

import os

from hypothesis import settings

# The machines that run this are shared: how long one example takes says nothing. What hypothesis finds by
# chance is found at a desk; the run that decides whether a change lands gives the same answer twice.
settings.register_profile("vifibnet", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("vifibnet")
