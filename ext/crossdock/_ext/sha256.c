#include "sha256.h"

#include <string.h>

/* FIPS 180-4 section 4.2.2; aligned for vector loads. */
#if defined(__GNUC__)
__attribute__((aligned(64)))
#endif
const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

const sha256_implementation *const sha256_implementations[] = {
#if defined(__x86_64__)
    &sha256_x86,
#endif
#if defined(__aarch64__) && defined(__linux__)
    &sha256_armv8,
#endif
    &sha256_portable,
    NULL,
};

const sha256_implementation *sha256_best(void) {
    const sha256_implementation *const *entry = sha256_implementations;
    while (!(*entry)->is_available()) {
        entry++;
    }
    return *entry;
}

static void put_be32(uint8_t *out, uint32_t value) {
    out[0] = (uint8_t)(value >> 24);
    out[1] = (uint8_t)(value >> 16);
    out[2] = (uint8_t)(value >> 8);
    out[3] = (uint8_t)value;
}

static void put_be64(uint8_t *out, uint64_t value) {
    put_be32(out, (uint32_t)(value >> 32));
    put_be32(out + 4, (uint32_t)value);
}

static uint32_t get_be32(const uint8_t *in) {
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | (uint32_t)in[3];
}

static uint64_t get_be64(const uint8_t *in) {
    return (uint64_t)get_be32(in) << 32 | get_be32(in + 4);
}

void sha256_init(sha256_state *state) {
    static const uint32_t initial[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    memcpy(state->words, initial, sizeof initial);
    memset(state->pending, 0, sizeof state->pending);
    state->length = 0;
}

/* Counts `size` bytes at `*data`, completes and compresses the pending block, and sets the rest aside.
 * Returns how many whole blocks are left to compress, at `*data`. */
static size_t take_edges(const sha256_implementation *with, sha256_state *state, const uint8_t **data, size_t size) {
    size_t held = (size_t)(state->length % SHA256_BLOCK);

    if (size == 0) {
        return 0; /* *data may be NULL, which memcpy must not see */
    }
    state->length += size;
    if (held != 0) {
        size_t wanted = SHA256_BLOCK - held;
        if (size < wanted) {
            memcpy(state->pending + held, *data, size);
            return 0;
        }
        memcpy(state->pending + held, *data, wanted);
        with->compress(state->words, state->pending, 1);
        *data += wanted;
        size -= wanted;
    }
    memcpy(state->pending, *data + (size - size % SHA256_BLOCK), size % SHA256_BLOCK);
    return size / SHA256_BLOCK;
}

void sha256_update(const sha256_implementation *with, sha256_state *state, const uint8_t *data, size_t size) {
    size_t blocks = take_edges(with, state, &data, size);

    if (blocks != 0) {
        with->compress(state->words, data, blocks);
    }
}

/* Compresses the fewest blocks that any lane has left in all of them; returns how many lanes are not finished,
 * moved to the front. */
static size_t run_lanes(const sha256_implementation *with, uint32_t *words[], const uint8_t *blocks[], size_t left[],
                        size_t lanes) {
    size_t fewest = left[0], kept = 0;

    for (size_t i = 1; i < lanes; i++) {
        fewest = left[i] < fewest ? left[i] : fewest;
    }
    if (lanes == 1) {
        with->compress(words[0], blocks[0], fewest);
    } else {
        with->compress_many(words, blocks, lanes, fewest);
    }
    for (size_t i = 0; i < lanes; i++) {
        if (left[i] != fewest) {
            words[kept] = words[i];
            blocks[kept] = blocks[i] + fewest * SHA256_BLOCK;
            left[kept] = left[i] - fewest;
            kept++;
        }
    }
    return kept;
}

void sha256_update_many(const sha256_implementation *with, sha256_state *const states[], const uint8_t *const data[],
                        const size_t sizes[], size_t count) {
    uint32_t *words[SHA256_LANES];
    const uint8_t *blocks[SHA256_LANES];
    size_t left[SHA256_LANES], lanes = 0;

    for (size_t i = 0; i < count; i++) {
        if (with->compress_many == NULL) {
            sha256_update(with, states[i], data[i], sizes[i]);
            continue;
        }
        blocks[lanes] = data[i];
        left[lanes] = take_edges(with, states[i], &blocks[lanes], sizes[i]);
        words[lanes] = states[i]->words;
        lanes += left[lanes] != 0;
        if (lanes == SHA256_LANES) {
            lanes = run_lanes(with, words, blocks, left, lanes);
        }
    }
    while (lanes != 0) {
        lanes = run_lanes(with, words, blocks, left, lanes);
    }
}

void sha256_digest(const sha256_implementation *with, const sha256_state *state, uint8_t digest[SHA256_SIZE]) {
    uint8_t tail[2 * SHA256_BLOCK] = {0};
    uint32_t words[8];
    size_t held = (size_t)(state->length % SHA256_BLOCK);
    size_t blocks = held + 1 + 8 <= SHA256_BLOCK ? 1 : 2; /* 0x80 and the length follow the message */

    memcpy(words, state->words, sizeof words);
    memcpy(tail, state->pending, held);
    tail[held] = 0x80;
    put_be64(tail + blocks * SHA256_BLOCK - 8, state->length * 8);
    with->compress(words, tail, blocks);
    for (int i = 0; i < 8; i++) {
        put_be32(digest + 4 * i, words[i]);
    }
}

/* Encoding, all integers big-endian:
 *
 *    0  7  "sha256s"
 *    7  1  version, 1
 *    8 32  the eight words after the last whole block
 *   40  8  bytes so far
 *   48  n  the last (bytes so far) % 64 bytes
 * 48+n  8  first bytes of the SHA-256 of everything before: finds damage, proves no origin
 */
static const uint8_t header[8] = {'s', 'h', 'a', '2', '5', '6', 's', 1};

static void check_of(const sha256_implementation *with, const uint8_t *data, size_t size,
                     uint8_t check[SHA256_SIZE]) {
    sha256_state state;
    sha256_init(&state);
    sha256_update(with, &state, data, size);
    sha256_digest(with, &state, check);
}

size_t sha256_export(const sha256_implementation *with, const sha256_state *state, uint8_t out[SHA256_EXPORT_MAX]) {
    size_t held = (size_t)(state->length % SHA256_BLOCK);
    uint8_t check[SHA256_SIZE];

    memcpy(out, header, sizeof header);
    for (int i = 0; i < 8; i++) {
        put_be32(out + 8 + 4 * i, state->words[i]);
    }
    put_be64(out + 40, state->length);
    memcpy(out + 48, state->pending, held);
    check_of(with, out, 48 + held, check);
    memcpy(out + 48 + held, check, 8);
    return 48 + held + 8;
}

sha256_import_result sha256_import(const sha256_implementation *with, sha256_state *state, const uint8_t *data,
                                   size_t size) {
    uint8_t check[SHA256_SIZE];
    uint64_t length;
    size_t held;

    if (size < sizeof header || memcmp(data, header, sizeof header - 1) != 0) {
        return SHA256_NO_STATE;
    }
    if (data[7] != header[7]) {
        return SHA256_UNKNOWN_VERSION;
    }
    if (size < 48 + 8) {
        return SHA256_DAMAGED;
    }
    length = get_be64(data + 40);
    held = (size_t)(length % SHA256_BLOCK);
    if (length > SHA256_MAX_LENGTH || size != 48 + held + 8) {
        return SHA256_DAMAGED;
    }
    check_of(with, data, 48 + held, check);
    if (memcmp(check, data + 48 + held, 8) != 0) {
        return SHA256_DAMAGED;
    }
    for (int i = 0; i < 8; i++) {
        state->words[i] = get_be32(data + 8 + 4 * i);
    }
    state->length = length;
    memset(state->pending, 0, sizeof state->pending);
    memcpy(state->pending, data + 48, held);
    return SHA256_IMPORTED;
}
