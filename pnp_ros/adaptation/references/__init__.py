"""Where true poses come from: one protocol, and the estimator's own poses as a reference."""
