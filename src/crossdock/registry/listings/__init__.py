"""Lists of a repository's manifests with their tags, by the APIs that some registries have for that."""
