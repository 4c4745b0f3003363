/* Private anonymous memory, aligned for huge pages. Pages are allocated when they are first touched. */
#ifndef CROSSDOCK_MAPPING_H
#define CROSSDOCK_MAPPING_H

#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* `size` bytes of zeros that begin on a 2 MiB boundary, on huge pages where the kernel has them.
 * NULL when the system has no such room. */
void *mapping_new(size_t size);

void mapping_free(void *base, size_t size);

#endif
