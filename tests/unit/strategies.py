"""What several property tests draw from."""

from __future__ import annotations

from hypothesis import strategies as st

from vifibnet.model.parameters import PARAMETERS, Parameter, Value


def possible(parameter: Parameter) -> st.SearchStrategy[Value]:
    """Values that a parameter can have."""
    low, high = parameter.low, parameter.high
    if parameter.kind is bytes:
        return st.binary(min_size=int(low), max_size=int(high))
    if parameter.kind is int:
        return st.integers(int(low), int(high))
    return st.floats(low, high).map(lambda value: float(f"{value:.9f}")).filter(lambda v: low <= v <= high)


settings = st.fixed_dictionaries({}, optional={name: possible(each) for name, each in PARAMETERS.items()})
"""Any values of the network's parameters."""
