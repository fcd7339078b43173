"""How long things may take without a violation: times that the proxy was built with, and moments that nobody sees."""

STORE_RECOVERS = 2.0 + 0.25 + 1.0
"""Seconds after a fault of the store in which a process may go on without it. An operation on the store fails after
0.25 s, the proxy does not try again for 2 s, and the next operation that succeeds takes the store back."""
STORE_TAKEN_BACK = 0.3
"""Seconds before and after the operation that takes the store back, or that fails: it is late if no request needs the
store, and requests at the same time go on without the store rather than wait for that operation."""
MOVED = 10.0
"""Seconds within which all is written to a Redis that has moved to another server."""
NGINX_CLOCK = 0.05
"""nginx looks at the clock once for all that came in at the same time."""
SCHEDULING = 0.5
"""Seconds by which an answer may be later than promised, because all processes share two cores with their clients."""
CLOSING = 5.0
"""Seconds after a signal within which a server that is reloaded has closed the connections that idle: gunicorn's new
workers start first."""
ON_ITS_WAY = 0.25
"""From a fetch's last look at what is known of C42 to the arrival of its call there."""
JOINED = 0.25
"""Seconds from the moment at which a search's result is decided to the last request that may join the search. A result
decided only then might be another one."""
LOOKED = 2.0
"""How long a process that knows that C42 may not be asked serves a stale copy without a look at what others know."""
REPEATED = 2.0
"""How long a failure may be repeated for its event at most."""
REPEATED_AT_LEAST = 1.0
"""`LEFT_SECONDS` in `c42_proxy/caching/shared_state.py`."""
OPEN_SECONDS = 5.0
"""How long the circuit breaker stays open."""
OWN_TIME = 0.2
"""The part of the budget that C42 takes for a call at least, where it is C42 that is late."""
SLOW = 0.8
"""The part of the budget after which C42's answers may have come too late."""
