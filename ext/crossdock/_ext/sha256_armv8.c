/* SHA-256 compression with the ARMv8 cryptography extension. */
#include "sha256.h"

#if defined(__aarch64__) && defined(__linux__)

#if !defined(__ARM_FEATURE_SHA2) && defined(__clang__)
/* clang declares the intrinsics only where the whole file may use them. */
#pragma clang attribute push(__attribute__((target("sha2"))), apply_to = function)
#define CLANG_PUSHED
#elif !defined(__ARM_FEATURE_SHA2)
#pragma GCC push_options
#pragma GCC target("+crypto")
#define GCC_PUSHED
#endif

#include <arm_neon.h>
#include <sys/auxv.h>

#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6)
#endif

/* One stream in registers. */
typedef struct {
    uint32x4_t abcd, efgh;
    uint32x4_t w[4]; /* sixteen words of the schedule, a ring of four vectors */
} stream;

/* Four of the 64 rounds; `group` 0..15 is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void four_rounds(stream *s, int group, const uint8_t *block) {
    uint32x4_t *now = &s->w[group & 3], abcd = s->abcd, sum;

    if (group < 4) {
        *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 16 * group)));
    }
    sum = vaddq_u32(*now, vld1q_u32(sha256_constants + 4 * group));
    s->abcd = vsha256hq_u32(abcd, s->efgh, sum);
    s->efgh = vsha256h2q_u32(s->efgh, abcd, sum);
    if (group >= 3 && group < 15) { /* the words of group + 1, from the four groups before it */
        uint32x4_t *next = &s->w[(group + 1) & 3];
        *next = vsha256su0q_u32(*next, s->w[(group + 2) & 3]);
        *next = vsha256su1q_u32(*next, s->w[(group + 3) & 3], *now);
    }
}

static void compress(uint32_t words[8], const uint8_t *blocks, size_t count) {
    stream s;

    s.abcd = vld1q_u32(words);
    s.efgh = vld1q_u32(words + 4);
    for (; count != 0; count--, blocks += SHA256_BLOCK) {
        uint32x4_t abcd = s.abcd, efgh = s.efgh;
        four_rounds(&s, 0, blocks);
        four_rounds(&s, 1, blocks);
        four_rounds(&s, 2, blocks);
        four_rounds(&s, 3, blocks);
        four_rounds(&s, 4, blocks);
        four_rounds(&s, 5, blocks);
        four_rounds(&s, 6, blocks);
        four_rounds(&s, 7, blocks);
        four_rounds(&s, 8, blocks);
        four_rounds(&s, 9, blocks);
        four_rounds(&s, 10, blocks);
        four_rounds(&s, 11, blocks);
        four_rounds(&s, 12, blocks);
        four_rounds(&s, 13, blocks);
        four_rounds(&s, 14, blocks);
        four_rounds(&s, 15, blocks);
        s.abcd = vaddq_u32(s.abcd, abcd);
        s.efgh = vaddq_u32(s.efgh, efgh);
    }
    vst1q_u32(words, s.abcd);
    vst1q_u32(words + 4, s.efgh);
}

#if defined(CLANG_PUSHED)
#pragma clang attribute pop
#elif defined(GCC_PUSHED)
#pragma GCC pop_options
#endif

static int is_available(void) {
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
}

const sha256_implementation sha256_armv8 = {"armv8", is_available, compress};

#else
typedef int sha256_armv8_is_empty_here;
#endif
