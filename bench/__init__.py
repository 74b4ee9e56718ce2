"""What `make bench` runs: this service beside a no-op endpoint and a textbook handler. bench/README.md tells the method."""
