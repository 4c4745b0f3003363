"""Content on this machine: the OCI image layout as a `content.Source` and `content.Target`."""
