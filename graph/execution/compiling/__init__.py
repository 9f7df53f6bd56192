"""From a prepared operation to the plan by which it is executed."""
