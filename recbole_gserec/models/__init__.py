"""Models, one file per method, composed of :mod:`recbole_gserec.layers`."""
