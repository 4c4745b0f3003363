/* Private anonymous memory, aligned for huge pages. Pages come into being when they are touched. */
#ifndef CROSSDOCK_MAPPING_H
#define CROSSDOCK_MAPPING_H

#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* `size` bytes of zeros that begin on a 2 MiB boundary, or NULL when the system has no such room.
 * With `huge` the kernel is asked for huge pages; `*is_huge` tells whether it took the advice. */
void *mapping_new(size_t size, int huge, int *is_huge);

void mapping_free(void *base, size_t size);

#endif
