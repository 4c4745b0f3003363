/* SHA-256 compression in plain C, for every machine without SHA instructions. */
#include "sha256.h"

static uint32_t rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static uint32_t load_be32(const uint8_t *in) {
    return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | (uint32_t)in[3];
}

/* One round of FIPS 180-4 section 6.2.2. Instead of moving eight variables along, the caller rotates their names. */
#define ROUND(a, b, c, d, e, f, g, h, word)                                                                    \
    do {                                                                                                       \
        h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) + (word);                    \
        d += h;                                                                                                \
        h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)));                       \
    } while (0)

/* The schedule needs only the last 16 words, so it lives in a ring of 16. */
#define EXPAND(t)                                                                                              \
    (w[(t) & 15] += (rotate(w[((t) - 15) & 15], 7) ^ rotate(w[((t) - 15) & 15], 18) ^ w[((t) - 15) & 15] >> 3) + \
                    w[((t) - 7) & 15] +                                                                        \
                    (rotate(w[((t) - 2) & 15], 17) ^ rotate(w[((t) - 2) & 15], 19) ^ w[((t) - 2) & 15] >> 10))

#define EIGHT_ROUNDS(t, WORD)                                      \
    do {                                                           \
        ROUND(a, b, c, d, e, f, g, h, k[(t) + 0] + WORD((t) + 0)); \
        ROUND(h, a, b, c, d, e, f, g, k[(t) + 1] + WORD((t) + 1)); \
        ROUND(g, h, a, b, c, d, e, f, k[(t) + 2] + WORD((t) + 2)); \
        ROUND(f, g, h, a, b, c, d, e, k[(t) + 3] + WORD((t) + 3)); \
        ROUND(e, f, g, h, a, b, c, d, k[(t) + 4] + WORD((t) + 4)); \
        ROUND(d, e, f, g, h, a, b, c, k[(t) + 5] + WORD((t) + 5)); \
        ROUND(c, d, e, f, g, h, a, b, k[(t) + 6] + WORD((t) + 6)); \
        ROUND(b, c, d, e, f, g, h, a, k[(t) + 7] + WORD((t) + 7)); \
    } while (0)

#define FIRST(t) (w[(t)] = load_be32(blocks + 4 * (t)))

static void compress(uint32_t words[8], const uint8_t *blocks, size_t count) {
    const uint32_t *k = sha256_constants;
    uint32_t w[16];

    for (; count != 0; count--, blocks += SHA256_BLOCK) {
        uint32_t a = words[0], b = words[1], c = words[2], d = words[3];
        uint32_t e = words[4], f = words[5], g = words[6], h = words[7];

        EIGHT_ROUNDS(0, FIRST);
        EIGHT_ROUNDS(8, FIRST);
        for (int t = 16; t < 64; t += 16) {
            EIGHT_ROUNDS(t, EXPAND);
            EIGHT_ROUNDS(t + 8, EXPAND);
        }
        words[0] += a;
        words[1] += b;
        words[2] += c;
        words[3] += d;
        words[4] += e;
        words[5] += f;
        words[6] += g;
        words[7] += h;
    }
}

static int always(void) {
    return 1;
}

const sha256_implementation sha256_portable = {"portable", always, compress, NULL};
