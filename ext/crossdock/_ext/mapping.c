#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include "mapping.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t whole_pages(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

void *mapping_new(size_t size) {
    size_t wanted, room, before;
    uint8_t *base;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    wanted = whole_pages(size);
    room = wanted + HUGE_PAGE;
    base = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return NULL;
    }
    /* mmap promises page alignment only: map too much and give the edges back. */
    before = (size_t)(-(uintptr_t)base) % HUGE_PAGE;
    if (before != 0) {
        munmap(base, before);
    }
    munmap(base + before + wanted, room - before - wanted);
    base += before;
#ifdef MADV_HUGEPAGE
    (void)madvise(base, wanted, MADV_HUGEPAGE); /* a kernel without them serves ordinary pages */
#endif
    return base;
}

void mapping_free(void *base, size_t size) {
    munmap(base, whole_pages(size));
}
