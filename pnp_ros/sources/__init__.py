"""Where correspondences come from: one file a source, one protocol (:mod:`pnp_ros.sources.source`) for all of them."""
