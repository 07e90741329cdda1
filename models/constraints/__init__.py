"""What forecasts must obey to rounding, by name: the last step of any network, in training and in rollouts."""
