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

#define INLINE static inline __attribute__((always_inline))

/* One stream in registers. */
typedef struct {
    uint32x4_t abcd, efgh;
    uint32x4_t abcd_before, efgh_before; /* as they were before this block */
    uint32x4_t w[4];                     /* sixteen words of the schedule, a ring of four vectors */
    const uint8_t *block;
} stream;

INLINE void load_state(stream *s, const uint32_t words[8], const uint8_t *blocks) {
    s->abcd = vld1q_u32(words);
    s->efgh = vld1q_u32(words + 4);
    s->block = blocks;
}

INLINE void store_state(const stream *s, uint32_t words[8]) {
    vst1q_u32(words, s->abcd);
    vst1q_u32(words + 4, s->efgh);
}

INLINE void begin_block(stream *s) {
    s->abcd_before = s->abcd;
    s->efgh_before = s->efgh;
}

INLINE void end_block(stream *s) {
    s->abcd = vaddq_u32(s->abcd, s->abcd_before);
    s->efgh = vaddq_u32(s->efgh, s->efgh_before);
    s->block += SHA256_BLOCK;
}

/* Four of the 64 rounds; `group` 0..15 is a constant wherever this is inlined. */
INLINE void four_rounds(stream *s, int group) {
    uint32x4_t *now = &s->w[group & 3], abcd = s->abcd, sum;

    if (group < 4) {
        *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(s->block + 16 * group)));
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

#define SHA256_TARGET /* the pragmas above say it for the whole file */
#define SHA256_INLINE INLINE
#include "sha256_lanes.h"

#if defined(CLANG_PUSHED)
#pragma clang attribute pop
#elif defined(GCC_PUSHED)
#pragma GCC pop_options
#endif

static int is_available(void) {
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
}

const sha256_implementation sha256_armv8 = {"armv8", is_available, compress, compress_many};

#else
typedef int sha256_armv8_is_empty_here;
#endif
