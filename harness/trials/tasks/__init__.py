"""What trials train and how they score it: one file a task, chosen by its settings (`harness.trials.task_config`)."""
