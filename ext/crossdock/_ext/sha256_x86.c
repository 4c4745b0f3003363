/* SHA-256 compression with the x86 SHA extensions (Goldmont, Ice Lake, Zen and later). */
#include "sha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Compiled for these instructions function by function: the rest of the build stays portable. */
#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))
#define WITH_SHA_INLINE static inline __attribute__((always_inline, target("sha,sse4.1,ssse3")))

/* One stream in registers. The instructions want the words in this order, highest lane first. */
typedef struct {
    __m128i abef, cdgh;
    __m128i abef_before, cdgh_before; /* as they were before this block */
    __m128i w[4];                     /* sixteen words of the schedule, a ring of four vectors */
    const uint8_t *block;
} stream;

WITH_SHA_INLINE void load_state(stream *s, const uint32_t words[8], const uint8_t *blocks) {
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)words), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(words + 4)), 0x1b);
    s->abef = _mm_alignr_epi8(cdab, efgh, 8);
    s->cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    s->block = blocks;
}

WITH_SHA_INLINE void store_state(const stream *s, uint32_t words[8]) {
    __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

WITH_SHA_INLINE void begin_block(stream *s) {
    s->abef_before = s->abef;
    s->cdgh_before = s->cdgh;
}

WITH_SHA_INLINE void end_block(stream *s) {
    s->abef = _mm_add_epi32(s->abef, s->abef_before);
    s->cdgh = _mm_add_epi32(s->cdgh, s->cdgh_before);
    s->block += SHA256_BLOCK;
}

/* Four of the 64 rounds, and what the schedule can do meanwhile. `group` 0..15 is a constant wherever this is
 * inlined, so the branches are decided by the compiler. The rounds are one chain of dependent instructions; the
 * schedule runs in its gaps: in group g the words of group g + 1 are finished and those of g + 3 begun. */
WITH_SHA_INLINE void four_rounds(stream *s, int group) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *now = &s->w[group & 3], *next = &s->w[(group + 1) & 3], *previous = &s->w[(group + 3) & 3];
    __m128i sum;

    if (group < 4) {
        *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(s->block + 16 * group)), big_endian);
    }
    sum = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)(sha256_constants + 4 * group)));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, sum);
    if (group >= 3 && group < 15) {
        *next = _mm_add_epi32(*next, _mm_alignr_epi8(*now, *previous, 4));
        *next = _mm_sha256msg2_epu32(*next, *now);
    }
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(sum, 0x0e));
    if (group >= 1 && group < 13) {
        *previous = _mm_sha256msg1_epu32(*previous, *now);
    }
}

#define SHA256_TARGET WITH_SHA
#define SHA256_INLINE WITH_SHA_INLINE
#include "sha256_lanes.h"

/* SSE state is kept by every operating system that runs this, so CPUID alone decides. */
static int is_available(void) {
    unsigned int a, b, c, d;
    const unsigned int needed = bit_SSSE3 | bit_SSE4_1;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed) {
        return 0;
    }
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) != 0;
}

const sha256_implementation sha256_x86 = {"x86-sha", is_available, compress, compress_many};

#else
typedef int sha256_x86_is_empty_here;
#endif
