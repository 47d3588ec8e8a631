"""Poses over time: one moving object's pose, velocity and their covariance, from poses that arrive one by one."""
