"""Values of the OCI specifications: references, digests, descriptors, manifests, platforms. No I/O."""
