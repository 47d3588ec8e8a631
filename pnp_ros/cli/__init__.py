"""The command ``pnp-ros``: one module per subcommand, each with ``add_arguments`` and ``run``."""
