"""How long things may take that are no violation: what the proxy was built with, and moments that nobody can see."""

STORE_RECOVERS = 2.0 + 0.25 + 1.0
"""Seconds after a fault of the store in which a process may go on without it: the proxy leaves it alone for 2 s after
an operation of 0.25 s that failed, and then takes it back with the next one."""
STORE_TAKEN_BACK = 0.3
"""Seconds around that one: it comes late where nobody needed the store, and who comes with it does not wait for it."""
MOVED = 10.0
"""Seconds within which all is written to a Redis that has moved to another server."""
NGINX_CLOCK = 0.05
"""nginx looks at the clock once for all that came in at the same time."""
SCHEDULING = 0.5
"""By which an answer may come later than promised where all processes share two cores with their clients."""
CLOSING = 5.0
"""Seconds after a signal within which a server that is reloaded has closed the connections that idle: gunicorn's new
workers start first."""
ON_ITS_WAY = 0.25
"""From a fetch's last look at what is known of C42 to the arrival of its call there."""
JOINED = 0.25
"""From a decision for those who wait for an event to the last one who may join them: by then it may be another one."""
REPEATED = 2.0
"""How long a failure may be repeated for its event at most."""
REPEATED_AT_LEAST = 1.0
"""`LEFT_SECONDS` in `c42_proxy/caching/shared_state.py`."""
PAUSE = 5.0
"""How long C42 is left alone when it is down."""
OWN_TIME = 0.2
"""The part of the budget that C42 takes for a call at least, where it is C42 that is late."""
SLOW = 0.8
"""The part of the budget after which C42's answers may have come too late."""
