"""How good poses and their covariances are: against the truth where it is known, against the image where not."""
