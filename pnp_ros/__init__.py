"""pnp_ros: the pose of a known object from a camera image, with an honest covariance.

Importing the package is free: it imports nothing heavier than :mod:`pkgutil`. Take what you need from the
sub-packages, for instance ``from pnp_ros.solvers.pnp import solve_pnp``.
"""

from pkgutil import extend_path

# From the repository root this source tree hides the installed package, which holds the generated messages.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
