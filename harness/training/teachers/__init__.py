"""Networks that students learn from: one file a kind, registered with its settings in `teacher_config`."""
