"""Search-enhanced recommendation for RecBole. Importing this package registers its models with RecBole."""

__version__ = "0.1.0"

from recbole_gserec import interruptions

# The other imports take seconds.
interruptions.heed_while_importing()

from recbole_gserec.registration import register, register_model  # noqa: E402

__all__ = ["register_model"]

register()
