/* SHA-256 (FIPS 180-4) as a resumable state and a table of compression functions.
 *
 * Layers, from the bottom:
 *   - a compression function takes whole blocks and keeps the eight words in registers over all of them
 *     (sha256_portable.c, sha256_x86.c, sha256_armv8.c); where that pays, a second one does so for several
 *     streams in turn, which hides the latency of the instructions;
 *   - sha256.c picks those that this machine can run, and feeds them: pending bytes, lanes, padding, export;
 *   - digest.pyx makes it a Python object.
 */
#ifndef CROSSDOCK_SHA256_H
#define CROSSDOCK_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK 64
#define SHA256_SIZE 32

/* The padding states the length in bits in 64 bits, so a message has fewer than 2**61 bytes. */
#define SHA256_MAX_LENGTH ((UINT64_C(1) << 61) - 1)

/* header 8, words 32, length 8, pending 0..63, check 8 (see sha256_export) */
#define SHA256_EXPORT_MAX (8 + 32 + 8 + 63 + 8)

/* One unfinished message. `pending` holds the last `length % 64` bytes. */
typedef struct {
    uint32_t words[8];
    uint64_t length;
    uint8_t pending[SHA256_BLOCK];
} sha256_state;

/* Absorbs `count` whole blocks into `words`. `blocks` needs no alignment. */
typedef void (*sha256_compress)(uint32_t words[8], const uint8_t *blocks, size_t count);

/* The most streams that are compressed in turn. Four gain little over three; more do not fit the registers. */
#define SHA256_LANES 4

/* Absorbs `count` whole blocks into each of `lanes` streams, 2..SHA256_LANES; equal to `compress` on each. */
typedef void (*sha256_compress_many)(uint32_t *const words[], const uint8_t *const blocks[], size_t lanes,
                                     size_t count);

typedef struct {
    const char *name;
    int (*is_available)(void);
    sha256_compress compress;
    sha256_compress_many compress_many; /* NULL: nothing is gained over one after another */
} sha256_implementation;

/* All that were compiled, fastest first, NULL at the end; the last one is always available. */
extern const sha256_implementation *const sha256_implementations[];

/* The fastest one that this machine can run. */
const sha256_implementation *sha256_best(void);

void sha256_init(sha256_state *state);

/* The caller sees to it that length + size <= SHA256_MAX_LENGTH. */
void sha256_update(const sha256_implementation *with, sha256_state *state, const uint8_t *data, size_t size);

/* As `sha256_update` of each of `count` different states, in turn where the implementation can. */
void sha256_update_many(const sha256_implementation *with, sha256_state *const states[], const uint8_t *const data[],
                        const size_t sizes[], size_t count);

/* The digest of the bytes so far; `state` is not changed and may be updated further. */
void sha256_digest(const sha256_implementation *with, const sha256_state *state, uint8_t digest[SHA256_SIZE]);

/* Encodes `state`; returns the number of bytes written to `out`. */
size_t sha256_export(const sha256_implementation *with, const sha256_state *state, uint8_t out[SHA256_EXPORT_MAX]);

typedef enum {
    SHA256_IMPORTED = 0,
    SHA256_NO_STATE,        /* not an exported state at all */
    SHA256_UNKNOWN_VERSION, /* exported by a version with another encoding */
    SHA256_DAMAGED          /* cut, extended or altered */
} sha256_import_result;

/* Decodes the output of `sha256_export`. `state` is changed only on success. */
sha256_import_result sha256_import(const sha256_implementation *with, sha256_state *state, const uint8_t *data,
                                   size_t size);

extern const uint32_t sha256_constants[64];
extern const sha256_implementation sha256_portable;
#if defined(__x86_64__)
extern const sha256_implementation sha256_x86;
#endif
#if defined(__aarch64__) && defined(__linux__)
extern const sha256_implementation sha256_armv8;
#endif

#endif
