"""What a training minimises: one file an objective, registered with its settings in `objective_config`."""
