/* copies.so, loaded by LD_PRELOAD: counts the bytes that a program moves, and says who moved them.
 *
 * Kernel to user and back: reads and writes of sockets. In user space: memcpy and memmove of 512 bytes and more, by
 * the code that called them; copies that a compiler or a library wrote out by itself are not seen, and small ones are
 * no body bytes. At exit each process writes a file, named by COPIES and its pid, of lines
 * "kind library function bytes calls".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PLACES 4096 /* a power of two */
#define LEAST 512

enum { COPY, RECEIVE, SEND };
static const char *const kinds[] = {"copy", "receive", "send"};

static struct place {
    _Atomic(uintptr_t) key; /* the calling address, with the kind added */
    _Atomic(uint64_t) bytes, calls;
} places[PLACES];

static void count(int kind, const void *caller, uint64_t bytes)
{
    uintptr_t key = ((uintptr_t)caller << 2) | (uintptr_t)kind;
    for (size_t i = (key * 0x9E3779B97F4A7C15u) >> 52; ; i = (i + 1) % PLACES) {
        uintptr_t found = 0;
        if (atomic_compare_exchange_strong(&places[i].key, &found, key) || found == key) {
            atomic_fetch_add(&places[i].bytes, bytes);
            atomic_fetch_add(&places[i].calls, 1);
            return;
        }
    }
}

/* Needed before the real ones are known, and by dlsym while it looks for them. */
static void *move_bytes(void *to, const void *from, size_t size)
{
    volatile unsigned char *target = to;
    const unsigned char *source = from;
    if (target <= source)
        for (size_t i = 0; i < size; i++)
            target[i] = source[i];
    else
        for (size_t i = size; i > 0; i--)
            target[i - 1] = source[i - 1];
    return to;
}

static void *(*real_memcpy)(void *, const void *, size_t) = move_bytes;
static void *(*real_memmove)(void *, const void *, size_t) = move_bytes;

#define REAL(name) ((__typeof__(&name))find(#name))

static void *find(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

__attribute__((constructor)) static void start(void)
{
    real_memcpy = REAL(memcpy);
    real_memmove = REAL(memmove);
}

__attribute__((destructor)) static void finish(void)
{
    const char *prefix = getenv("COPIES");
    char path[4096];
    snprintf(path, sizeof path, "%s.%d", prefix == NULL ? "copies" : prefix, (int)getpid());
    FILE *out = fopen(path, "w");
    if (out == NULL)
        return;
    for (size_t i = 0; i < PLACES; i++) {
        uintptr_t key = atomic_load(&places[i].key);
        Dl_info info;
        if (key == 0)
            continue;
        /* User addresses have fewer than 62 bits: nothing was lost by the shift. */
        int known = dladdr((void *)(key >> 2), &info) != 0 && info.dli_fname != NULL;
        fprintf(out, "%s\t%s\t%s\t%llu\t%llu\n", kinds[key & 3], known ? info.dli_fname : "?",
                known && info.dli_sname != NULL ? info.dli_sname : "",
                (unsigned long long)atomic_load(&places[i].bytes), (unsigned long long)atomic_load(&places[i].calls));
    }
    fclose(out);
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    if (size >= LEAST)
        count(COPY, __builtin_return_address(0), size);
    return real_memcpy(to, from, size);
}

void *memmove(void *to, const void *from, size_t size)
{
    if (size >= LEAST)
        count(COPY, __builtin_return_address(0), size);
    return real_memmove(to, from, size);
}

void *__memcpy_chk(void *restrict to, const void *restrict from, size_t size, size_t room)
{
    if (size > room)
        abort();
    if (size >= LEAST)
        count(COPY, __builtin_return_address(0), size);
    return real_memcpy(to, from, size);
}

void *__memmove_chk(void *to, const void *from, size_t size, size_t room)
{
    if (size > room)
        abort();
    if (size >= LEAST)
        count(COPY, __builtin_return_address(0), size);
    return real_memmove(to, from, size);
}

static ssize_t moved(int kind, int fd, const void *caller, ssize_t size)
{
    struct stat status;
    if (size > 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode))
        count(kind, caller, (uint64_t)size);
    return size;
}

#define SEEN(kind, call) return moved(kind, fd, __builtin_return_address(0), call)

ssize_t read(int fd, void *data, size_t size) { SEEN(RECEIVE, REAL(read)(fd, data, size)); }
ssize_t readv(int fd, const struct iovec *data, int pieces) { SEEN(RECEIVE, REAL(readv)(fd, data, pieces)); }
ssize_t recv(int fd, void *data, size_t size, int flags) { SEEN(RECEIVE, REAL(recv)(fd, data, size, flags)); }
ssize_t recvmsg(int fd, struct msghdr *data, int flags) { SEEN(RECEIVE, REAL(recvmsg)(fd, data, flags)); }
ssize_t write(int fd, const void *data, size_t size) { SEEN(SEND, REAL(write)(fd, data, size)); }
ssize_t writev(int fd, const struct iovec *data, int pieces) { SEEN(SEND, REAL(writev)(fd, data, pieces)); }
ssize_t send(int fd, const void *data, size_t size, int flags) { SEEN(SEND, REAL(send)(fd, data, size, flags)); }
ssize_t sendmsg(int fd, const struct msghdr *data, int flags) { SEEN(SEND, REAL(sendmsg)(fd, data, flags)); }
