"""What `make bench` runs: the proxy beside its peers, on this machine, over loopback alone."""
