"""The distribution specification without sockets: paths, ranges, challenges, uploads, paging, errors."""
