"""What operators see of the service: health, metrics, logs."""
