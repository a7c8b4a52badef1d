"""Every rule of the protocol, with a switch that turns it off: the simulator must find the loss."""

from __future__ import annotations

from typing import Final

from tests.simulation import collector_rules, writer_rules
from tests.simulation.switches import Rule

RULES: Final[dict[str, Rule]] = {**writer_rules.RULES, **collector_rules.RULES}
