"""A registry as a `content.Source` and `content.Target`: authentication, retries, and one module per noun."""
